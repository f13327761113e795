"""What a run removes on a host before new volumes take the place of lost ones."""

from __future__ import annotations

from bulkhead.names import ROLLBACK_JOURNAL
from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.model import Storage
from pyinfra_lvm.operations import replace_fstab
from tasks.lost_volumes import forget

from .example_hosts import DEVICE, VOLUME_MOUNT
from .operations import OperationHost, commands, performed

FSTAB = f"""\
# mine
UUID=1 / ext4 defaults 0 1
{DEVICE} {VOLUME_MOUNT} ext4 nofail 0 2
{VOLUME_MOUNT}/docker /var/lib/docker none bind 0 0
UUID=2 {VOLUME_MOUNT} ext4 noauto 0 0
"""
LINES = ((DEVICE, VOLUME_MOUNT), (f"{VOLUME_MOUNT}/docker", "/var/lib/docker"))


def host(fstab: str) -> OperationHost:
    return OperationHost({StorageLayout: Storage(fstab_text=fstab)})


def test_stale_lines_and_files_go_and_every_other_line_stays_as_it_is() -> None:
    fstab, *others = performed(forget, host(FSTAB), lines=LINES, files=("/var/lib/bulkhead/relocation.json",))
    kept = f"# mine\nUUID=1 / ext4 defaults 0 1\nUUID=2 {VOLUME_MOUNT} ext4 noauto 0 0\n"
    assert fstab.connector_arguments == replace_fstab(FSTAB, kept).connector_arguments
    assert list(map(str, others)) == ["systemctl daemon-reload", "rm -f /var/lib/bulkhead/relocation.json"]


def test_rollback_that_was_cut_keeps_docker_down_no_longer() -> None:
    (only,) = commands(forget, host(""), lines=(), files=(ROLLBACK_JOURNAL,))
    assert only == (
        f"rm -f {ROLLBACK_JOURNAL} && {{ [ ! -x /usr/local/bin/bulkhead ] || /usr/local/bin/bulkhead relocate --recover; }}"
    )


def test_forgetting_that_was_cut_is_finished_or_has_nothing_to_do() -> None:
    assert commands(forget, host("# mine\n"), lines=LINES, files=()) == []
