"""What is in the kernel's tables of mounts."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from bulkhead.storage import mounts

from ...cases import BOUND, BoundCase
from ...fake_proc import FakeProc

ROOT = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw"


@pytest.fixture
def mount_table(proc: FakeProc) -> Callable[..., None]:
    """Gives this process, which is the host's only one, a table of mounts."""
    proc.become(1)
    return lambda *lines: (proc.path / "1/mountinfo").write_text("".join(f"{line}\n" for line in (ROOT, *lines)))


def test_kernels_escapes_are_undone(mount_table: Callable[..., None]) -> None:
    mount_table(
        r"23 22 0:5 / /srv/a\040b rw - tmpfs tmpfs rw",
        "24 22 0:6 / /srv rw - tmpfs tmpfs rw",
        r"25 23 254:2 / /srv/a\040b/c rw - ext4 /dev/x rw",
        "26 22 0:7 / /srv2/c rw - tmpfs tmpfs rw",
    )
    assert [mount.target for mount in mounts.mounts_within(["/srv"])] == ["/srv/a b/c", "/srv/a b"]


def test_directory_that_is_bound_to_itself_is_mounted(mount_table: Callable[..., None]) -> None:
    mount_table("23 22 254:1 /srv/a /srv/a rw - ext4 /dev/root rw")
    assert mounts.is_mounted("/srv/a")
    assert not mounts.is_mounted("/srv")


@pytest.mark.parametrize("case", BOUND, ids=str)
def test_where_a_directory_is_bound_elsewhere(proc: FakeProc, case: BoundCase) -> None:
    case.fill(proc)
    found = []
    for text in mounts.bound_elsewhere(case.directory, readers=True):
        match = re.fullmatch(r"bound to (\S+)(?: by nginx \(process (\d+)\))?", text)
        assert match, text
        found.append((int(match[2] or 1), match[1]))
    assert found == list(case.bound)


def test_mounts_that_can_only_be_read_are_counted_on_request(mount_table: Callable[..., None]) -> None:
    mount_table("23 22 254:1 /home /srv/home ro - ext4 /dev/root rw")
    assert mounts.bound_elsewhere("/home") == []
    assert mounts.bound_elsewhere("/home", readers=True) == ["bound to /srv/home"]


def test_what_descends_from_a_program_can_be_left_out(proc: FakeProc) -> None:
    container = "61 60 254:1 /home/me /data rw - ext4 /dev/root rw"
    BoundCase("", container=(container,)).fill(proc)
    proc.add(80, "containerd-shim-runc-v2")
    proc.add(81, "postgres", parent=80, namespace="another", mounts=[container])
    shown = ["bound to /data by nginx (process 70)", "bound to /data by postgres (process 81)"]
    assert mounts.bound_elsewhere("/home") == shown
    assert mounts.bound_elsewhere("/home", but_of=("containerd-shim",)) == shown[:1]


def test_device_that_another_namespace_has_mounted_is_found(proc: FakeProc) -> None:
    BoundCase("", container=("61 60 254:9 / /data rw - ext4 /dev/x rw",)).fill(proc)
    assert mounts.mounted_elsewhere(0xFE09) == ["nginx (process 70), which has it on /data"]
    assert mounts.mounted_elsewhere(0xFE08) == []


def test_what_the_kernel_uses_is_found(proc: FakeProc) -> None:
    (proc.path / "swaps").write_text(
        "Filename Type Size Used Priority\n/home/my\\040swap file 1 0 -2\n/swap file 1 0 -2\n"
    )
    (proc.path / "fs/nfsd").mkdir(parents=True)
    exports = "# Version 1.1\n/srv/www\t*(ro)\n/\t*(v4root)\n/home/me\t*(rw)\n"
    (proc.path / "fs/nfsd/exports").write_text(exports)
    assert mounts.kernel_uses("/home") == ["/home/my swap, which is swap", "/home/me, which NFS exports"]
    (proc.path / "fs/nfsd/exports").write_text("/\t*(rw,crossmnt)\n")
    assert mounts.kernel_uses("/srv") == ["/, which NFS exports"]
