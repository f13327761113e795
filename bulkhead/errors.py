"""Errors whose message is for people."""

from __future__ import annotations

import subprocess


class Problem(Exception):
    """What goes wrong in a known way: the message is for people, and says what to do."""


# What is told without a traceback.
PROBLEMS = (Problem, OSError, ValueError, subprocess.SubprocessError)


class Failed(Problem):
    """Something did not come about; the message says what, and what the host is on now."""


def in_words(error: BaseException) -> str:
    return str(error).rstrip(".") or repr(error)
