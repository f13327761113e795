"""Errors whose message is for people."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    PROBLEMS: tuple[type[Exception], ...]  # errors that are shown to people without a traceback


class Problem(Exception):
    """Something goes wrong in a known way. The message is for people, and says what to do."""


class Failed(Problem):
    """Something could not be done. The message says what, and the state that the host is left in."""


def in_words(error: BaseException) -> str:
    """Return an error's message as a part of a sentence."""
    return str(error).rstrip(".") or repr(error)


if not TYPE_CHECKING:

    def __getattr__(name):
        # A check does without PROBLEMS, and importing subprocess would add half of Python's start to its cost.
        if name == "PROBLEMS":
            import subprocess

            return (Problem, OSError, ValueError, subprocess.SubprocessError)
        raise AttributeError(name)
