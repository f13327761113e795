"""Who uses a directory, and what is in the kernel's tables."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bulkhead import procfs
from bulkhead.procfs import Login, users_of
from bulkhead.storage import mounts

from ...processes import orphan


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home2").mkdir()
    (tmp_path / "home" / "file").write_text("x" * 5000)
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("command", "writes"),
    [
        ("cd {place}; exec sleep 100", False),
        ("exec sleep 100 <{place}/file", False),
        ("exec sleep 100 >>{place}/file", True),
        ("exec sleep 100 <>{place}/file", True),
        ("cp $(command -v sleep) {place}/program; exec {place}/program 100", False),
        (
            "exec python3 -c \"import mmap,time; f=open('{place}/file','r+'); m=mmap.mmap(f.fileno(),0); f.close(); time.sleep(100)\"",
            True,
        ),
    ],
    ids=["stands there", "reads", "appends", "reads and writes", "runs a program", "has it in memory"],
)
def test_every_kind_of_use_is_seen(place: Path, command: str, writes: bool) -> None:
    pid = orphan("sh", "-c", command.format(place=place))
    beside = orphan("sh", "-c", f"cd {place}2; exec sleep 100")
    try:
        # A shell that has yet to become what it runs may use nothing, or something else.
        for _ in range(100):
            found = users_of([str(place)])
            if [(user.pid, user.writes) for user in found] == [(pid, writes)]:
                return
            os.sched_yield()
            subprocess.run(["sleep", "0.05"])
        raise AssertionError(f"{found} instead of process {pid}, writing: {writes}")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.kill(beside, signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() != 0, reason="a root of its own needs root")
def test_process_of_a_container_is_no_user_of_what_has_the_same_name_on_the_host(place: Path) -> None:
    script = (
        f"mount -t tmpfs none {place} && mkdir -p {place}{place} {place}/old {place}/bin {place}/lib {place}/lib64 {place}/usr && "
        f"for d in bin lib lib64 usr; do mount --rbind /$d {place}/$d; done; cd {place} && pivot_root . old && cd {place} && exec sleep 100"
    )
    pid = orphan("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                    break
            time.sleep(0.05)
        assert os.readlink(f"/proc/{pid}/cwd") == str(place)
        assert users_of([str(place)]) == []
    finally:
        os.kill(pid, signal.SIGKILL)


def test_login_has_its_own_processes_and_no_other() -> None:
    login = Login.parse(str(Login.own()))
    child = subprocess.Popen(["sleep", "100"])
    stranger = orphan("sleep", "100")
    try:
        assert login.includes(os.getpid())
        assert login.includes(child.pid)
        assert login.includes(os.getppid())
        assert not login.includes(stranger)
    finally:
        child.kill()
        child.wait()
        os.kill(stranger, signal.SIGKILL)


@pytest.mark.parametrize(
    ("group", "is_own"),
    [
        ("0::/user.slice/user-1000.slice/session-3.scope", True),
        ("0::/user.slice/user-1000.slice/user@1000.service/init.scope", True),
        ("0::/user.slice/user-1000.slice/session-4.scope", False),
        ("0::/user.slice/user-1001.slice/user@1001.service/init.scope", False),
        ("0::/system.slice/cron.service", False),
    ],
)
def test_session_and_the_systemd_that_came_with_it_are_one_login(
    monkeypatch: pytest.MonkeyPatch, group: str, is_own: bool
) -> None:
    monkeypatch.setattr(procfs, "_cgroup", lambda _: group)
    stranger = orphan("sleep", "100")
    try:
        assert Login(1, "0::/user.slice/user-1000.slice/session-3.scope").includes(stranger) == is_own
        assert not Login(1, "0::/system.slice/ssh.service").includes(stranger)
    finally:
        os.kill(stranger, signal.SIGKILL)


ROOT = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw"


@pytest.fixture
def mount_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    path = tmp_path / "mountinfo"
    monkeypatch.setattr(mounts, "MOUNTINFO", str(path))
    return lambda *lines: path.write_text("\n".join((ROOT, *lines)) + "\n")


def test_kernels_escapes_are_undone(mount_table: Callable[..., None]) -> None:
    mount_table(
        r"23 22 0:5 / /srv/a\040b rw - tmpfs tmpfs rw",
        "24 22 0:6 / /srv rw - tmpfs tmpfs rw",
        r"25 23 254:2 / /srv/a\040b/c rw - ext4 /dev/x rw",
        "26 22 0:7 / /srv2/c rw - tmpfs tmpfs rw",
    )
    assert [mount.target for mount in mounts.mounts_within(["/srv"])] == ["/srv/a b/c", "/srv/a b"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("23 22 254:1 /home/me/www /srv/www rw - ext4 /dev/root rw", ["bound to /srv/www"]),
        ("23 22 254:1 /home /srv/home rw - ext4 /dev/root rw", ["bound to /srv/home"]),
        ("23 22 254:1 /home/me/www /srv/www ro - ext4 /dev/root rw", []),
        ("23 22 254:2 /home/me/www /srv/www rw - ext4 /dev/other rw", []),
        ("23 22 254:1 /home2 /srv/home rw - ext4 /dev/root rw", []),
        ("23 22 254:1 /home /home rw - ext4 /dev/root rw", []),
        ("23 22 254:1 / /host rw - ext4 /dev/root rw", ["bound to /host"]),
        ("23 22 254:1 / /host ro - ext4 /dev/root rw", []),
        ("23 22 254:1 / /host rw master:1 - ext4 /dev/root rw", []),
    ],
    ids="part all read-only another-filesystem beside in-its-place above above-read-only above-following".split(),
)
def test_directory_that_is_bound_elsewhere_is_seen(
    mount_table: Callable[..., None], line: str, found: list[str]
) -> None:
    mount_table(line)
    bound = mounts.bound_elsewhere("/home")
    # The same table is played to every namespace that there is on this machine.
    assert [words for words in bound if " by " not in words] == found
    assert bool(bound) == bool(found)


def test_directory_on_a_filesystem_of_its_parent_is_looked_for_by_its_place_there(
    mount_table: Callable[..., None],
) -> None:
    mount_table(
        "23 22 254:3 /@var /var rw - btrfs /dev/x rw",
        "24 22 254:3 /@var/lib/docker/volumes/v/_data /srv/www rw - btrfs /dev/x rw",
    )
    assert "bound to /srv/www" in mounts.bound_elsewhere("/var/lib/docker")
