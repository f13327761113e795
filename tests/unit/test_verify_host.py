"""What the verification asks a host, and how it judges the answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.verify.test_host import (
    beneath,
    floor_of,
    inode_floor_of,
)
from tests.verify.test_host import (
    test_directories_beneath_the_mounts_are_empty_and_immutable as check_beneath,
)
from tests.verify.test_host import (
    test_guard_is_at_work_and_keeps_its_floors as check_floors,
)

from .tasks.example_hosts import settings
from .tasks.operations import shell, stand_in

G = 2**30


class FakeTarget:
    """A host, played by stand-ins for the programs that change it.

    Args:
        programs: where the stand-ins are.
    """

    mount_points = ("/srv/docker-volume", "/var/lib/docker", "/var/lib/containerd")
    volume = "/srv/docker-volume"

    def __init__(self, programs: Path, **wanted: Any) -> None:
        self.programs = programs
        self.settings = settings(guard=True, **wanted)
        self.status: dict[str, Any] = {"old": {}, "extra_volumes": {}, "guard": {}}
        self.asked: list[str] = []

    def run(self, command: str) -> str:
        self.asked.append(command)
        done = shell(command, self.programs)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def target(tmp_path: Path) -> FakeTarget:
    return FakeTarget(tmp_path, extra_volumes={"home-lv": {"mount": "/home", "size": "5G"}})


def held(target: FakeTarget, top: Path, path: str, *files: str, immutable: bool = True) -> None:
    """Put files beneath a mount."""
    directory = top / path[1:]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / ".immutable").unlink(missing_ok=True)
    for name in files:
        file = directory / name
        (file.mkdir if name.endswith("/") else file.parent.mkdir)(parents=True, exist_ok=True)
        if not name.endswith("/"):
            file.touch()
    target.programs.joinpath(f"flags{path.replace('/', '_')}").write_text("----i----" if immutable else "---------")


@pytest.fixture
def host(target: FakeTarget, tmp_path: Path) -> Path:
    """The directories beneath the mounts, all empty and immutable. Return the root that they are in."""
    top = tmp_path / "root"
    for path in (*target.mount_points, "/home"):
        held(target, top, path)
    # `mount --bind PARENT /mnt` is played by a link, which `umount /mnt` removes.
    stand_in(tmp_path, "mount", f"[ $1 = --bind ] && ln -s {top}$2 {tmp_path}/mnt && echo $2 >{tmp_path}/parent")
    stand_in(tmp_path, "umount", f"rm {tmp_path}/mnt")
    stand_in(
        tmp_path,
        "lsattr",
        f'path=$(cat {tmp_path}/parent)/$(basename "$(pwd -P)"); '
        f'echo "$(cat {tmp_path}/flags$(echo "$path" | sed "s,//,/,; s,/,_,g")) ."',
    )
    stand_in(tmp_path, "unshare", f'shift 5; exec sh -ec "$(echo "$1" | sed "s,/mnt,{tmp_path}/mnt,g")"')
    return top


def test_what_lies_beneath_each_mount_is_seen(target: FakeTarget, host: Path) -> None:
    held(target, host, "/var/lib/docker", "overlay2/a", "image/", immutable=False)
    held(target, host, "/home", "ann/.ssh/authorized_keys", "bob/.ssh/authorized_keys2")
    found = beneath(target, [*target.mount_points, "/home"])  # type: ignore[arg-type]
    assert {path: (immutable, sorted(files)) for path, (immutable, files) in found.items()} == {
        "/srv/docker-volume": (True, []),
        "/var/lib/docker": (False, ["image", "overlay2/a"]),
        "/var/lib/containerd": (True, []),
        "/home": (True, []),
    }


@pytest.mark.parametrize(
    ("files", "immutable", "wrong"),
    [
        (["overlay2/a"], True, "holds overlay2/a"),
        (["left/"], True, "holds left"),
        ([], False, "is not immutable"),
    ],
)
@pytest.mark.parametrize(("path", "old"), [("/var/lib/docker", "old"), ("/home", "extra_volumes")])
@pytest.mark.usefixtures("host")
def test_what_lies_beneath_a_mount_must_be_the_old_data_of_a_move(
    target: FakeTarget, host: Path, path: str, old: str, files: list[str], immutable: bool, wrong: str
) -> None:
    check_beneath(target)  # type: ignore[arg-type]
    held(target, host, path, *files, immutable=immutable)
    with pytest.raises(
        AssertionError, match=f"the directory beneath {path} {wrong}, and no move has left its old data"
    ):
        check_beneath(target)  # type: ignore[arg-type]
    target.status[old] = {path: G} if old == "old" else {path: {"old": {path: G}}}
    check_beneath(target)  # type: ignore[arg-type]


def test_nothing_may_lie_beneath_the_volume(target: FakeTarget, host: Path) -> None:
    held(target, host, target.volume, "docker/image")
    target.status["old"] = {"/var/lib/docker": G}
    with pytest.raises(AssertionError, match="beneath /srv/docker-volume holds docker/image"):
        check_beneath(target)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("guard", "holds"),
    [
        ({"floor": 5 * G, "inode_floor": 327_680}, True),
        ({"floor": 2 * G, "inode_floor": 327_680}, False),
        ({"floor": 5 * G, "inode_floor": 0}, False),
    ],
)
def test_floors_of_the_guard_are_those_of_its_volume(
    target: FakeTarget, tmp_path: Path, guard: dict[str, int], holds: bool
) -> None:
    stand_in(tmp_path, "systemctl", "echo now")
    answers = "case $* in *itotal*) echo Inodes; echo 6553600 ;; *) echo Size; echo 107374182400 ;; esac"
    stand_in(tmp_path, "df", answers)
    target.status["guard"] = guard
    if holds:
        check_floors(target)  # type: ignore[arg-type]
    else:
        with pytest.raises(AssertionError):
            check_floors(target)  # type: ignore[arg-type]
    assert not [command for command in target.asked if "/run/bulkhead" in command], "a record of the program's own"


def test_floors_are_what_the_guards_page_says(target: FakeTarget) -> None:
    sizes = (6 * G, 20 * G, 100 * G, 2000 * G)
    assert [floor_of(target, size) / G for size in sizes] == [1.5, 2, 5, 50]  # type: ignore[arg-type]
    assert [*map(inode_floor_of, (0, 100_000, 6_000_000, 10**9))] == [0, 25_000, 300_000, 1_000_000]
