"""What moves need of the system: commands, fstab, who uses a directory, and what is beneath a mount."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from bulkhead.command import run
from bulkhead.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Sequence

# Beneath a mount: in a mount namespace of its own, through a bind mount of the parent, where nothing is mounted.
_BENEATH = r"""
parent=$1 beneath=/mnt/$2; shift 2
mount --bind "$parent" /mnt
if mountpoint -q "$beneath"; then echo "something is mounted on $beneath" >&2; exit 1; fi
"""

# $1: a time in seconds since the epoch.
_CHANGED_BENEATH = f"""{_BENEATH}
find "$beneath" -xdev -newerct "@$1" -printf '%P\\0'
"""

# $1 …: paths beneath it that stay. What is immutable there is what an earlier call has left, or of no use here.
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
chattr -R +i "$beneath"
sync -f "$beneath"
"""


def changed_beneath(path: str, since: float) -> list[str]:
    """What has been changed beneath a mount after a moment, by the ctime, relative to it.

    Args:
        path: where something is mounted.
        since: seconds since the epoch.

    Raises:
        Failed: it cannot be seen.
    """
    found = _beneath(path, _CHANGED_BENEATH, f"{since:.6f}")
    return [name or "." for name in found.split("\0")[:-1]]


def refuse_changed(path: str, since: float) -> None:
    """See that nobody has used an old tree since the move.

    Raises:
        Failed: somebody has.
    """
    if changed := changed_beneath(path, since):
        parent, name = os.path.split(path)
        raise Failed(
            f"the old files beneath {path} have been changed since the move: {', '.join(changed[:5])}. "
            f"`mount --bind {parent} /mnt` shows them in /mnt/{name}. `bulkhead finalize --force` removes them all the same"
        )


def empty_beneath(path: str, keep: Sequence[str] = ()) -> None:
    """Remove what is beneath a mount, and make what is left immutable: not even root writes there any more.

    Args:
        path: where something is mounted.
        keep: files, as they are named without the mount, that stay, with the directories that lead to them.

    Raises:
        Failed: it could not be removed.
    """
    escaped = [
        re.sub(r"([\\*?\[\]])", r"\\\1", file.removeprefix(path)) for file in keep
    ]  # find takes it for a pattern
    _beneath(path, _EMPTY_BENEATH, *(f"/mnt/{os.path.basename(path)}{file}" for file in escaped))


def _beneath(path: str, script: str, *arguments: str) -> str:
    parent, name = os.path.split(path)
    try:
        return run(
            *("unshare", "--mount", "--propagation", "private"), *("sh", "-ec", script, "sh"), parent, name, *arguments
        )
    except Failed as failed:
        raise Failed(f"beneath {path} (`mount --bind {parent} /mnt` shows it): {failed}") from failed
