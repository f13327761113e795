"""What a run removes on a host before new volumes take the place of lost ones."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from bulkhead.names import ROLLBACK_JOURNAL
from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.fstab import fstab_with
from pyinfra_lvm.model import FstabEntry, Storage
from pyinfra_lvm.operations import replace_fstab
from tasks.lost_volumes import forget
from tasks.preflight.facts import HostFacts
from tasks.support.run_lock import Holder, RunLockHolder

from .deployment import deployed
from .example_hosts import DEVICE, VOLUME_MOUNT, bare_host, settings, shared_vg
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


@pytest.mark.parametrize("beside", ["/dev/a /a ext4 ro 0 0\n", "/dev/z /z ext4 ro 0 0\n"])
def test_stale_line_goes_whatever_stands_beside_it(beside: str) -> None:
    fstab, reload = performed(forget, host(f"{DEVICE} {VOLUME_MOUNT} ext4 ro 0 0\n{beside}"), lines=LINES, files=())
    assert fstab.connector_arguments["_stdin"].endswith(f" {base64.b64encode(beside.encode()).decode()}\n")
    assert str(reload) == "systemctl daemon-reload"


@pytest.mark.parametrize("lost", [True, False])
def test_only_a_host_with_a_lost_volume_forgets_anything(lost: bool) -> None:
    entry = FstabEntry(DEVICE, VOLUME_MOUNT, "ext4", ("nofail",))
    storage = replace(shared_vg(), fstab=(entry,), fstab_text=fstab_with("", entry)) if lost else shared_vg()
    facts = {HostFacts: bare_host(), StorageLayout: storage, RunLockHolder: Holder()}
    run = deployed("deploy.py", settings(replace_lost_volumes=True), OperationHost(facts))
    assert ("tasks.lost_volumes.forget" in run.ran) == lost
    names = run.names
    assert not lost or names.index(
        "The host forgets the volume ubuntu-vg/docker-lv for /srv/docker-volume"
    ) < names.index("Logical volume ubuntu-vg/docker-lv")


def test_rollback_that_was_cut_keeps_docker_down_no_longer() -> None:
    (only,) = commands(forget, host(""), lines=(), files=(ROLLBACK_JOURNAL,))
    assert only == (
        f"rm -f {ROLLBACK_JOURNAL} && {{ [ ! -x /usr/local/bin/bulkhead ] || /usr/local/bin/bulkhead relocate --recover; }}"
    )


def test_forgetting_that_was_cut_is_finished_or_has_nothing_to_do() -> None:
    assert commands(forget, host("# mine\n"), lines=LINES, files=()) == []
