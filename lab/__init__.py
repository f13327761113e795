"""Throwaway virtual machines under QEMU, for the demonstration in the README and for the tests."""

import os


class LabError(Exception):
    """An error whose message is for the user of the lab."""


def with_system_directories(path: str) -> str:
    """Return a ``PATH`` with the directories of the system's tools added.

    The lab needs mke2fs from one of them, and the ``PATH`` of an ordinary Debian user lacks them.
    """
    directories = path.split(":") if path else []
    return ":".join([*directories, *(d for d in ("/usr/local/sbin", "/usr/sbin", "/sbin") if d not in directories)])


os.environ["PATH"] = with_system_directories(os.environ.get("PATH", os.defpath))
