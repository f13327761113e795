"""Errors whose message is for people."""

from __future__ import annotations

from typing import TYPE_CHECKING


class Problem(Exception):
    """A known problem. The message says what happened, and what to do."""


class Failed(Problem):
    """Something failed. The message says what, and what state the host is in now."""


if TYPE_CHECKING:
    PROBLEMS: tuple[type[Exception], ...]  # whose message is printed without a traceback


def __getattr__(name: str) -> tuple[type[Exception], ...]:
    """Return PROBLEMS. It needs subprocess, whose import would cost a check, which has no use for it, a tenth of its time."""
    if name != "PROBLEMS":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    import subprocess

    return (Problem, OSError, ValueError, subprocess.SubprocessError)


def in_words(error: BaseException) -> str:
    return str(error).rstrip(".") or repr(error)
