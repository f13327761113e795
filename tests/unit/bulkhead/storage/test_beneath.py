"""What a mount hides is found, and removed as far as nobody needs it: with real mounts, in a namespace of their own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkhead.errors import Failed
from bulkhead.storage import beneath

from ...processes import may_mount
from ..programs import program

pytestmark = pytest.mark.skipif(not may_mount(), reason="a mount needs root")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with old files, beneath a filesystem with others. `chattr` only writes down what it is asked for."""
    program(tmp_path / "chattr", f'echo "$@" >>{tmp_path}/attributes')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    place = tmp_path / "parent" / "home"
    for name in ("me/.ssh", "you", "odd[a]/*", "empty"):
        (place / name).mkdir(parents=True)
    for name in ("me/.ssh/authorized_keys", "me/file", "you/file", "odd[a]/*/key", "odd[a]/*/file"):
        (place / name).write_text("old")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], check=True)
    (place / "new").write_text("on the volume")
    for name in ("me/.ssh/authorized_keys", "me/.ssh/config", "odd[a]/*/key", "later/.ssh/authorized_keys"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("new")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def old_files(place: Path) -> list[str]:
    """Return what is beneath: directories, and files with what they hold."""
    subprocess.run(["umount", place], check=True)
    found = sorted(
        f"{path.relative_to(place)}: {path.read_text()}" if path.is_file() else str(path.relative_to(place))
        for path in place.rglob("*")
    )
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    return found


def test_old_files_go_and_those_that_are_kept_are_as_they_are_in_the_mount_now(place: Path, tmp_path: Path) -> None:
    kept = ("me/.ssh/authorized_keys", "odd[a]/*/key", "later/.ssh/authorized_keys")
    beneath.empty_beneath(str(place), [f"{place}/{name}" for name in kept])
    assert (place / "new").read_text() == "on the volume"
    assert (tmp_path / "attributes").read_text() == "-f -i /mnt/home\n-R -f -i /mnt/home\n-R +i /mnt/home\n"
    assert old_files(place) == [
        *("later", "later/.ssh", "later/.ssh/authorized_keys: new"),
        *("me", "me/.ssh", "me/.ssh/authorized_keys: new"),
        *("odd[a]", "odd[a]/*", "odd[a]/*/key: new"),
    ]


def test_key_that_is_a_link_beneath_is_replaced_and_not_written_through(place: Path, tmp_path: Path) -> None:
    subprocess.run(["umount", place], check=True)
    (tmp_path / "shared").write_text("others'")
    (place / "me/.ssh/authorized_keys").unlink()
    (place / "me/.ssh/authorized_keys").symlink_to(tmp_path / "shared")
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    (place / "me/.ssh").mkdir(parents=True)
    (place / "me/.ssh/authorized_keys").write_text("new")
    beneath.empty_beneath(str(place), [f"{place}/me/.ssh/authorized_keys"])
    assert (tmp_path / "shared").read_text() == "others'"
    assert old_files(place) == ["me", "me/.ssh", "me/.ssh/authorized_keys: new"]


def test_nothing_is_kept_without_a_word(place: Path) -> None:
    beneath.empty_beneath(str(place))
    assert old_files(place) == []


def test_change_since_the_move_is_found_and_refused(place: Path) -> None:
    assert beneath.changed_beneath(str(place), time.time() + 60) == []
    beneath.refuse_changed(str(place), time.time() + 60)
    found = beneath.changed_beneath(str(place), time.time() - 60)
    assert sorted(found) == [
        *(".", "empty", "me", "me/.ssh", "me/.ssh/authorized_keys", "me/file"),
        *("odd[a]", "odd[a]/*", "odd[a]/*/file", "odd[a]/*/key", "you", "you/file"),
    ]
    with pytest.raises(Failed) as refused:
        beneath.refuse_changed(str(place), time.time() - 60)
    text = f"the old files beneath {place} have been changed since the move: {', '.join(found[:5])}. `mount --bind "
    assert str(refused.value).startswith(text)


def test_filesystem_that_is_still_in_the_way_is_not_emptied(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "mountpoint", "exit 0")
    with pytest.raises(
        Failed, match=rf"^beneath {place} \(`mount --bind {place.parent} /mnt` shows it\): .*something is mounted"
    ):
        beneath.empty_beneath(str(place))
    monkeypatch.setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    assert "me/file: old" in old_files(place)
