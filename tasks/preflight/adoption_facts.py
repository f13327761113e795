"""The fact about a filesystem that is going to be adopted. One command, which only reads."""

from __future__ import annotations

import shlex

from pyinfra.api import FactBase

from tasks.preflight.adoption import EMPTY, FilesystemRoot

_UNTYPED = "ftype=0"

# A name may have a newline in it: then its parts are no names of Docker's, and the host is refused.
_SCRIPT = r"""
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
xfs_info "$1" 2>/dev/null | grep -o 'ftype=0'; echo names; ls -A "$1"
"""


class RootOfFilesystem(FactBase[FilesystemRoot]):
    """Return what is at the top of a mounted filesystem.

    Args:
        path: where it is mounted.
    """

    def command(self, path: str) -> str:
        return shlex.join(["sh", "-c", _SCRIPT, "root", path])

    def process(self, output: list[str]) -> FilesystemRoot:
        at = output.index("names")
        return FilesystemRoot(tuple(output[at + 1 :]), has_types=_UNTYPED not in output[:at])

    @staticmethod
    def default() -> FilesystemRoot:
        return EMPTY
