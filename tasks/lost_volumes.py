"""After this, a host no longer names the volumes that are lost, and new ones can take their place.

Their lines in fstab, the journals of the moves onto them, and the list of containers that an upgrade stopped are removed.
The program's configuration is written anew later: until the new volume is there, it tells a run after a cut that the volume
was lost.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.deploy import deploy

from bulkhead.names import PROGRAM, ROLLBACK_JOURNAL
from pyinfra_lvm.collection import fact, operation
from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.fstab import fstab_without
from pyinfra_lvm.operations import replace_fstab
from tasks.preflight.plan import Plan


@operation()
def forget(lines: Sequence[tuple[str, str]], files: Sequence[str]) -> Generator[StringCommand, None, None]:
    """Remove what names volumes that are lost.

    Args:
        lines: source and target of lines in fstab.
        files: journals and lists.
    """
    old = new = fact(StorageLayout).fstab_text
    for source, target in lines:
        new = fstab_without(new, target, source)
    if new != old:
        yield replace_fstab(old, new)
        # Otherwise systemd mounts a volume of the same name as soon as it appears, before its filesystem is complete.
        yield StringCommand("systemctl daemon-reload")
    if files:
        # A rollback that was cut keeps Docker down. Without its journal there is nothing to recover, and that ends it. In
        # one command: a run that is cut in between would find no journal, and leave Docker down.
        recover = f" && {{ [ ! -x {PROGRAM} ] || {PROGRAM} relocate --recover; }}" if ROLLBACK_JOURNAL in files else ""
        yield StringCommand(f"rm -f {shlex.join(files)}{recover}")
    if new == old and not files:
        host.noop("nothing names a lost volume")


@deploy("Lost volumes")
def give_up(plan: Plan) -> None:
    """Have the host forget its lost volumes."""
    if plan.lost_volumes:
        forget(
            name=f"The host forgets {', '.join(map(str, plan.lost_volumes))}",
            lines=[line for volume in plan.lost_volumes for line in volume.stale_lines],
            files=[path for volume in plan.lost_volumes for path in volume.stale_files],
        )
