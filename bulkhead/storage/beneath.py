"""Reach the files that a mount hides: list those that have changed, and remove them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from bulkhead.command import run
from bulkhead.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Sequence

# In a mount namespace of its own, through a bind mount of the parent directory: there the mount does not appear.
_BENEATH = r"""
cd "$1/$2"
parent=$1 beneath=/mnt/$2; shift 2
mount --bind "$parent" /mnt
if mountpoint -q "$beneath"; then echo "something is mounted on $beneath" >&2; exit 1; fi
"""

# $1: a time in seconds since the epoch.
_CHANGED_BENEATH = f"""{_BENEATH}
find "$beneath" -xdev -newerct "@$1" -printf '%P\\0'
"""

# $1 …: paths beneath the mount that stay. Immutable files there are what an earlier call has left, or of no use.
_EMPTY_BENEATH = f"""{_BENEATH}
for kept; do
    set -- "$@" ! -path "$kept"
    shift
done
chattr -f -i "$beneath" || :
find "$beneath" -mindepth 1 -xdev ! -type d "$@" -delete 2>/dev/null || {{
    chattr -R -f -i "$beneath" || :
    find "$beneath" -mindepth 1 -xdev ! -type d "$@" -delete
}}
find "$beneath" -mindepth 1 -xdev -depth -type d -empty -delete
"""

# $1 …: paths in the mount, relative to it. What they have there takes the place of what they had at the time of the move.
_CLOSE_BENEATH = f"""{_BENEATH}
chattr -R -f -i "$beneath" || :
[ $# = 0 ] || cp --archive --parents --remove-destination -- "$@" "$beneath"
chattr -R +i "$beneath"
sync -f "$beneath"
"""


def changed_beneath(path: str, since: float) -> list[str]:
    """Return the paths beneath a mount that have changed since a moment, by their ctime, relative to the mount.

    Args:
        path: where something is mounted.
        since: seconds since the epoch.

    Raises:
        Failed: the files beneath the mount cannot be reached.
    """
    found = _run_beneath(path, _CHANGED_BENEATH, f"{since:.6f}")
    return [name or "." for name in found.split("\0")[:-1]]


def refuse_changed(path: str, since: float) -> None:
    """Refuse to go on if somebody has changed an old tree since the move.

    Args:
        path: where something is mounted.
        since: seconds since the epoch.

    Raises:
        Failed: somebody has changed it, or it cannot be reached.
    """
    if changed := changed_beneath(path, since):
        parent, name = os.path.split(path)
        raise Failed(
            f"the old files beneath {path} have been changed since the move: {', '.join(changed[:5])}. "
            f"`mount --bind {parent} /mnt` shows them in /mnt/{name}. `bulkhead finalize --force` removes them all the same"
        )


def empty_beneath(path: str, keep: Sequence[str] = ()) -> None:
    """Remove the files beneath a mount, and make what is left immutable: then not even root can write there.

    Args:
        path: where something is mounted.
        keep: files of the mount, by their full paths. They are also kept beneath it, as they are in the mount now, with the
            directories that lead to them.

    Raises:
        Failed: a file could not be removed.
    """
    kept = [os.path.relpath(file, path) for file in keep]
    # find takes the paths for patterns.
    escaped = [re.sub(r"([\\*?\[\]])", r"\\\1", file) for file in kept]
    # The old files stay until only they are left: a cut must not leave none.
    _run_beneath(path, _EMPTY_BENEATH, *(f"/mnt/{os.path.basename(path)}/{file}" for file in escaped))
    _run_beneath(path, _CLOSE_BENEATH, *kept)


def _run_beneath(path: str, script: str, *arguments: str) -> str:
    parent, name = os.path.split(path)
    unshare = ("unshare", "--mount", "--propagation", "private")
    try:
        return run(*unshare, "sh", "-ec", script, "sh", parent, name, *arguments)
    except Failed as failed:
        raise Failed(f"beneath {path} (`mount --bind {parent} /mnt` shows it): {failed}") from failed
