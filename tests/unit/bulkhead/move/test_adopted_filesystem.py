"""An adoption that is cut at any of its steps ends on all of the data, and Docker never runs on a store without it.

The host is a fake. A mount is a symbolic link in the place of the directory that it covers; the trees and fstab are real.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from bulkhead.errors import Failed
from bulkhead.move import adopted_filesystem, relocation
from bulkhead.move.adopted_filesystem import ADOPTING, gather, is_flat, scatter
from bulkhead.names import BALLAST, BEFORE, MARKER
from bulkhead.outage import journal, outage
from bulkhead.storage import fstab
from bulkhead.storage.mounts import MountInfo
from bulkhead.storage.processes import Process
from pyinfra_lvm.fstab import FstabEntry, format_entry, parse_fstab

from .. import disk
from ..configs import config
from ..power_cut import CUTS, PowerCut
from .test_relocation import RAN, RelocationHost

SOURCE = "UUID=6f0a"
CLOSED = "[Unit]\nAssertPathIsMountPoint=\n"
BLOB = "io.containerd.content.v1.content/blobs/sha256/1"


class AdoptionHost(RelocationHost):
    """A machine whose Docker has a filesystem of its own, and containerd's store on the root disk."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch, *, images: bool = False) -> None:
        super().__init__(top, monkeypatch)
        self.images = images
        self.lines = f"# mine\n{SOURCE} {self.stores['docker']} ext4 noatime,discard 0 2\n/swap none swap sw 0 0\n"
        self.table = Path(f"{top}/fstab")
        self.table.write_text(self.lines)
        entry = FstabEntry(SOURCE, self.volume, "ext4", ("private", "noatime", "nofail"), passno=2)
        self.config = config(
            **self.config._asdict() | {"volume_fstab": (entry,), "closed_drop_ins": {str(self.drop_in): CLOSED}}
        )
        self.filesystem = f"{top}/filesystem"
        self.devices = {SOURCE: self.filesystem}  # by their names in fstab, and what is mounted for them
        shutil.rmtree(self.volume)
        disk._RENAME(self.stores["docker"], self.filesystem)
        os.mkdir(self.stores["docker"])
        for name in ("lost+found", "overlay2", "volumes", "containerd"):  # a containerd of Docker's own, from before
            os.mkdir(f"{self.filesystem}/{name}")
        Path(self.filesystem, "volumes", "sentinel").write_text("precious")
        Path(self.filesystem, "containerd", "daemon").write_text("docker's own")
        os.chmod(self.filesystem, 0o710)
        store = Path(self.stores["containerd"])
        disk._RENAME(store / "content", store / "skeleton")
        if images:
            store.joinpath(BLOB).parent.mkdir(parents=True)
            store.joinpath(BLOB).write_text("an image")
        self.has_docker = True
        self.busy = False  # somebody has a file open on the filesystem
        self.lets_go = 0  # after so many attempts to unmount it; 0: not at all
        self._link(self.stores["docker"], self.filesystem)

        monkeypatch.setattr(fstab, "FSTAB", str(self.table))
        monkeypatch.setattr(fstab, "_count_errors", lambda _: 0)
        for module in (relocation, adopted_filesystem):
            for name, fake in {
                "is_mounted": os.path.islink,
                "mount_by_fstab": self._mount,
                "run": self._run,
            }.items():
                monkeypatch.setattr(module, name, fake)
        monkeypatch.setattr(relocation, "read_fstab", fstab.read_fstab)
        monkeypatch.setattr(relocation, "replace_fstab", fstab.replace_fstab)
        monkeypatch.setattr(outage, "read_fstab", fstab.read_fstab)
        monkeypatch.setattr(adopted_filesystem, "mounts_of", self._mounts)
        monkeypatch.setattr(adopted_filesystem, "_device_of", lambda _: os.stat(self.filesystem).st_dev)
        monkeypatch.setattr(adopted_filesystem, "_INTERVAL", 0)
        monkeypatch.setattr(adopted_filesystem, "kernel_uses", lambda _: [])
        monkeypatch.setattr(adopted_filesystem, "users_of", lambda _: [Process(9, "bash")] if self.busy else [])

    # -- the machine

    def _link(self, path: str, target: str) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            disk._RENAME(path, f"{path}.beneath")
            os.symlink(os.path.realpath(target), path)

    def _unlink(self, path: str) -> None:
        os.unlink(path)
        disk._RENAME(f"{path}.beneath", path)

    def _mounts(self) -> list[MountInfo]:
        paths = [path for path in (self.volume, *self.stores.values()) if os.path.islink(path)]
        return [MountInfo("8:1", self._root_of(path), path, "ext4", True, False, True) for path in paths]

    def _root_of(self, path: str) -> str:
        return os.readlink(path).removeprefix(self.filesystem) or "/"

    def _run(self, *words: str, **_: object) -> str:
        self.step()
        self.disk.record(" ".join(words[:-1]), words[-1])
        if words[:2] == ("systemctl", "show"):
            return "\n\n".join(["loaded" if self.has_docker else "not-found"] * 3)
        if words[:2] == ("systemctl", "stop"):
            self.up = False
        elif words[:2] == ("systemctl", "enable"):
            assert self.recovery.exists()
        elif words[0] == "mount":
            source = next((e.source for e in parse_fstab(self.table.read_text()) if e.target == words[-1]), words[-2])
            self._link(words[-1], self.devices.get(source, source))
        elif words[0] == "sync":
            for path in filter(os.path.isfile, Path(self.filesystem).rglob("*")):
                self.disk._synced[os.stat(path).st_ino] = path.read_bytes()
        elif words[0] == "umount":
            if self.busy and "--lazy" not in words:
                self.lets_go -= 1
                self.busy = self.lets_go != 0
                raise Failed("`umount` failed: target is busy")
            assert not self.up or words[-1] == self.volume, "the ground was taken away under Docker"
            self._unlink(words[-1])
        return ""

    def _mount(self, *paths: str) -> None:
        for path in paths:
            if not os.path.islink(path):
                self._run("mount", path)

    def _is_closed(self) -> bool:
        """Whether the final drop-ins are in place, and what they assert is not."""
        if not self.drop_in.exists() or not self.drop_in.read_text().startswith(CLOSED):
            return False
        return not all(os.path.islink(p) and Path(p, MARKER).exists() for p in (self.volume, *self.stores.values()))

    def _start_docker(self) -> None:
        if self._is_closed() or (self.blocked.exists() and self.block_drop_in.exists()):
            return
        root = os.path.realpath(self.stores["docker"])
        whole = {f"{self.filesystem}": "theirs", f"{self.filesystem}/docker": "ours"}
        assert root in whole, "Docker was started on an empty store"
        assert {"overlay2", "volumes", "containers", "images"} <= {*os.listdir(root)}, (
            "Docker was started on half a store"
        )
        assert self.images == Path(self.stores["containerd"], BLOB).exists(), "Docker was started without its images"
        if whole[root] == "theirs":
            assert is_flat(root)
        elif self.broken_on_volume:
            raise Failed("`systemctl start docker.service` failed")
        self.up = True
        self.written += 1
        (self.store("docker") / f"written-{self.written}").touch()  # by a container that starts by itself
        self._set({name: name in ("web", "stopped") for name in self._containers()})

    def reboot(self, how: str = "power") -> None:
        self.last_step = 0  # nothing more is cut
        if how == "unsynced":
            self.disk.lose_power()
        self.boots += 1
        self.up = self.busy = False
        for path in (self.blocked, self.block_drop_in):
            path.unlink(missing_ok=True)
        for path in (*self.stores.values(), self.volume):
            if os.path.islink(path):
                self._unlink(path)
        for entry in parse_fstab(self.table.read_text()):
            if entry.source in self.devices:
                os.makedirs(entry.target, exist_ok=True)
                self._link(entry.target, self.devices[entry.source])
            elif "bind" in entry.options:
                os.makedirs(entry.source, exist_ok=True)  # as systemd does
                self._link(entry.target, entry.source)
        if self.has_docker:
            self._start_docker()

    def store(self, name: str) -> Path:
        return Path(self.stores[name])

    def inventory(self) -> Any:
        self._refuse_down()
        return {
            "images": {"all": (self.store("docker") / "images").read_text()},
            "containers": {
                name: {
                    "name": name,
                    "image": "i",
                    "restart": {"Name": "always" if name in ("web", "stopped") else "no"},
                    "status": "running" if running else "exited",
                    "started": "",
                }
                for name, running in self._containers().items()
            },
            "volumes": {},
            "networks": {},
        }

    # -- what must hold

    def tree(self) -> set[str]:
        """What Docker has, as it sees it, without what it writes itself."""
        top = self.store("docker")
        found = {str(path.relative_to(top)) for path in top.rglob("*")}
        return {
            name
            for name in found
            if not name.startswith((MARKER, "written-", "containers", "lost+found", "containerd."))
        }

    def assert_on_one_side(self) -> str:
        """Return ours or theirs: where Docker runs, with fstab, mounts and tree that belong together."""
        text, store, containerd = self.table.read_text(), self.stores["docker"], self.stores["containerd"]
        assert not self.blocked.exists(), "Docker stays blocked"
        assert not self.recovery.exists(), "the recovery unit is left over"
        assert self.up or not self.has_docker
        assert Path(store, "volumes", "sentinel").read_text() == "precious"
        assert Path(store, "containerd", "daemon").read_text() == "docker's own"
        assert os.stat(store).st_mode & 0o777 == 0o710
        assert len([*Path(store).glob("written-*")]) == self.written, "what was written since is gone"
        assert Path(self.filesystem, "lost+found").is_dir()
        if text == self.lines:
            assert os.path.realpath(store) == self.filesystem
            assert is_flat(store)
            assert not os.path.lexists(self.volume), "its new place is left over"
            assert not os.path.islink(containerd)
            assert Path(containerd, "skeleton").exists()
            assert not os.path.exists(containerd + BEFORE)
            return "theirs"
        ours = [format_entry(entry) for entry in (*self.config.volume_fstab, *self.config.store_fstab)]
        assert text.splitlines() == ["# mine", *ours, "/swap none swap sw 0 0"]
        assert Path(f"{self.table}{BEFORE}").read_text() == self.lines
        assert [os.path.realpath(path) for path in (self.volume, store, containerd)] == [
            self.filesystem,
            f"{self.filesystem}/docker",
            f"{self.filesystem}/containerd",
        ]
        assert all(Path(path, MARKER).exists() for path in (self.volume, store, containerd))
        assert Path(containerd, BLOB).exists() == self.images
        assert os.path.exists(containerd + BEFORE) != self.images
        assert self.drop_in.read_text().startswith(CLOSED)
        assert os.stat(self.filesystem).st_mode & 0o777 == 0o755
        return "ours"

    def assert_whole(self, ran: set[str]) -> None:
        side, phase = self.assert_on_one_side(), self.move().journal.phase
        done = journal.DONE if self.images else journal.FINALIZED
        assert phase in ((done,) if side == "ours" else (journal.FAILED, journal.ROLLED_BACK, ""))
        assert ran <= {name for name, running in self._containers().items() if running}


@pytest.fixture(params=[False, True], ids=["unused-containerd", "images-in-containerd"])
def images(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def host(memory_path: Path, monkeypatch: pytest.MonkeyPatch, images: bool) -> AdoptionHost:
    return AdoptionHost(memory_path, monkeypatch, images=images)


def test_filesystem_becomes_the_volume_with_all_that_docker_had(host: AdoptionHost) -> None:
    before = host.tree()
    assert host.move().is_pending
    host.move().relocate()
    host.assert_whole(set(RAN))
    assert host.tree() == before
    assert not host.move().is_pending
    assert host.move().is_on_volume


def test_everything_is_on_the_disk_before_what_relies_on_it(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = AdoptionHost(memory_path, monkeypatch)
    host.move().relocate()
    shown = ("journal:", "rename", "mount", "umount", "chattr", "start Docker", "systemctl stop", "fsync filesystem")
    events = [event for event in host.disk.events if event.startswith(shown)]
    switch = events[events.index("systemctl stop docker.socket docker.service containerd.service") :]
    assert [event for event in switch if not event.startswith("rename relocation.json")] == [
        "systemctl stop docker.socket docker.service containerd.service",
        "journal: switching",
        "rename drop-in.conf.new drop-in.conf",
        "umount docker",
        "chattr +i docker",
        "journal: switching",  # with the name that the unused store gets
        f"rename containerd containerd{BEFORE}",
        "chattr +i containerd",
        "rename containerd containerd",
        "rename containers containers",
        "rename images images",
        "rename overlay2 overlay2",
        "rename volumes volumes",
        "fsync filesystem",
        f"rename {MARKER}.new {MARKER}",
        f"rename {ADOPTING} docker",
        "fsync filesystem",
        "fsync filesystem",  # after containerd's copy, if there is one
        f"rename {MARKER}.new {MARKER}",
        f"rename {MARKER}.new {MARKER}",
        "fsync filesystem",
        "fsync filesystem",
        f"rename fstab{BEFORE}.new fstab{BEFORE}",
        "rename fstab.checked.new fstab.checked",
        "rename fstab.new fstab",
        "journal: checking",
        "mount docker",
        "mount containerd",
        "journal: checking",
        "start Docker",
        "journal: finalized",
    ]


@pytest.mark.parametrize("how", CUTS)
def test_adoption_that_is_cut_at_any_step_ends_on_all_of_the_data(host: AdoptionHost, how: str) -> None:
    before = host.tree()
    cuts = host.cuts(host.move().relocate)
    assert len(cuts) > 40
    ends, went_on, recovered = set(), set(), set()
    for cut in cuts:
        cut()
        if how != "kill":
            host.reboot(how)
        if (state := host.state()) in went_on:
            continue
        went_on.add(state)
        host.move().recover()
        host.assert_whole({"web"})
        ends.add(host.assert_on_one_side())
        assert host.tree() == before
        if (state := host.state()) in recovered:
            continue
        recovered.add(state)
        if host.move().is_pending:
            host.move().relocate()
        assert host.assert_on_one_side() == "ours"
        host.assert_whole({"web"})
        assert host.tree() == before
    assert ends == {"ours", "theirs"}


@pytest.mark.parametrize("how", CUTS)
def test_way_back_that_is_cut_at_any_step_ends_on_all_of_the_data(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    host = AdoptionHost(memory_path, monkeypatch)
    before = host.tree()
    host.move().relocate()
    cuts = host.cuts(host.move().roll_back)
    assert host.assert_on_one_side() == "theirs"
    assert len(cuts) > 25
    ends, went_on = set(), set()
    for cut in cuts:
        cut()
        if how != "kill":
            host.reboot(how)
        if (state := host.state()) in went_on:
            continue
        went_on.add(state)
        host.move().recover()
        ends.add(host.assert_on_one_side())
        host.assert_whole({"web"})
        assert host.tree() == before
    assert ends == {"ours", "theirs"}


@pytest.mark.parametrize("how", ["power", "kill"])
def test_recovery_that_is_cut_itself_goes_on(host: AdoptionHost, how: str) -> None:
    went_on = set()
    for number, cut in enumerate(host.cuts(host.move().relocate, at=range(1, 1000, 3))):
        cut()
        if how == "power":
            host.reboot()
        host.broken_on_volume = number % 2 == 1
        cuts_again = host.cuts(host.move().recover, at=(1, 5, 10, 16))
        for cut_again in (lambda: None, *cuts_again):
            cut_again()
            host.broken_on_volume = False
            host.reboot()
            if (state := host.state()) in went_on:
                continue
            went_on.add(state)
            host.move().recover()
            host.assert_whole({"web"})


def test_docker_that_does_not_start_on_the_volume_runs_where_it_was(host: AdoptionHost) -> None:
    before = host.tree()
    host.broken_on_volume = True
    with pytest.raises(Failed, match=r"start docker.service` failed. Docker runs on its old data"):
        host.move().relocate()
    assert host.assert_on_one_side() == "theirs"
    assert host.tree() >= before
    host.broken_on_volume = False
    host.move().relocate()
    assert host.assert_on_one_side() == "ours"


def test_filesystem_that_somebody_uses_is_left_as_it_is(host: AdoptionHost) -> None:
    host.busy = True
    with pytest.raises(Failed, match=r"is in use: bash \(process 9\). End that, and run again"):
        host.move().relocate()
    host.assert_whole(set(RAN))
    assert host.assert_on_one_side() == "theirs"


def test_filesystem_that_somebody_lets_go_of_is_adopted(host: AdoptionHost) -> None:
    host.busy, host.lets_go = True, 3
    host.move().relocate()
    assert host.assert_on_one_side() == "ours"


def test_another_filesystem_is_never_touched(host: AdoptionHost, monkeypatch: pytest.MonkeyPatch) -> None:
    before = host.tree()
    monkeypatch.setattr(adopted_filesystem, "_device_of", lambda _: 7)
    with pytest.raises(Failed, match="another filesystem than UUID=6f0a is mounted on"):
        host.move().relocate()
    assert host.up
    assert host.tree() == before
    assert is_flat(host.filesystem)


@pytest.fixture
def renamed(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdoptionHost:
    """A host whose own line of fstab has a name that leads to another filesystem after the adoption."""
    host = AdoptionHost(memory_path, monkeypatch)
    monkeypatch.setattr(
        adopted_filesystem.AdoptedFilesystem,
        "_is_another",
        lambda _, path: host.filesystem not in (os.path.realpath(path), os.path.dirname(os.path.realpath(path))),
    )
    host.devices["/dev/sdb1"] = host.devices["LABEL=docker"] = host.filesystem
    return host


def _adopt_and_rename(host: AdoptionHost, name: str) -> Path:
    host.table.write_text(host.lines.replace(SOURCE, name))
    host.move().relocate()
    other = Path(f"{host.filesystem}.other")
    shutil.copytree(host.filesystem, other)  # a clone
    host.devices[name] = str(other)
    return other


def test_kernel_name_in_their_line_gives_way_to_the_uuid(renamed: AdoptionHost) -> None:
    _adopt_and_rename(renamed, "/dev/sdb1")
    renamed.move().roll_back()
    assert renamed.assert_on_one_side() == "theirs"
    renamed.reboot()
    assert renamed.assert_on_one_side() == "theirs"


def test_adoption_that_fails_after_a_boot_with_other_kernel_names_ends_on_the_filesystem(renamed: AdoptionHost) -> None:
    renamed.table.write_text(renamed.lines.replace(SOURCE, "/dev/sdb1"))
    renamed.broken_on_volume = True
    with pytest.raises(Failed, match="Docker runs on its old data"):
        renamed.move().relocate()
    assert renamed.assert_on_one_side() == "theirs"


def test_cut_adoption_ends_on_the_filesystem_though_the_boot_mounts_another(
    renamed: AdoptionHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(top: str) -> None:
        gather(top)
        renamed.last_step = renamed.steps + 1

    renamed.table.write_text(renamed.lines.replace(SOURCE, "/dev/sdb1"))
    other = f"{renamed.filesystem}.other"
    shutil.copytree(renamed.filesystem, other)  # a clone, as the filesystem was
    monkeypatch.setattr(adopted_filesystem, "gather", cut)
    with pytest.raises(PowerCut):
        renamed.move().relocate()
    renamed.devices["/dev/sdb1"] = other
    renamed.reboot()
    assert os.path.realpath(renamed.stores["docker"]) == other
    renamed.move().recover()
    assert renamed.assert_on_one_side() == "theirs"


def test_rollback_unmounts_another_filesystem_that_their_line_mounts(renamed: AdoptionHost) -> None:
    other = _adopt_and_rename(renamed, "LABEL=docker")
    before = sorted(other.rglob("*"))
    with pytest.raises(Failed, match=r"fstab mounts another filesystem than UUID=6f0a on .*Docker stays down"):
        renamed.move().roll_back()
    assert not renamed.up
    assert not os.path.islink(renamed.stores["docker"])
    assert sorted(other.rglob("*")) == before
    renamed.table.write_text(renamed.lines)  # its owner corrects it
    renamed.move().recover()
    assert renamed.assert_on_one_side() == "theirs"


def test_files_beneath_the_mount_keep_the_filesystem_where_it_is(host: AdoptionHost) -> None:
    beneath = Path(f"{host.stores['docker']}.beneath", "old")
    beneath.touch()
    with pytest.raises(Failed, match="is not empty beneath the mount"):
        host.move().relocate()
    host.assert_whole(set(RAN))
    assert beneath.exists()


def test_filesystem_of_a_host_without_docker_is_adopted(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = AdoptionHost(memory_path, monkeypatch)
    host.up = host.has_docker = False
    shutil.rmtree(host.stores["containerd"])
    Path(host.stores["containerd"] + BEFORE).mkdir()  # which the assertion looks for
    host.move().relocate()
    assert host.assert_on_one_side() == "ours"
    assert not host.up


def test_filesystem_of_a_host_without_docker_goes_back_too(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = AdoptionHost(memory_path, monkeypatch)
    host.up = host.has_docker = False

    def refuse(_: object) -> None:
        raise Failed("a store is not mounted")

    monkeypatch.setattr(outage.Outage, "refuse_other_mounts", refuse)
    with pytest.raises(Failed, match="a store is not mounted"):
        host.move().relocate()
    assert host.assert_on_one_side() == "theirs"


def test_filesystem_goes_back_though_docker_came_later_and_does_not_answer(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = AdoptionHost(memory_path, monkeypatch)
    host.up = host.has_docker = False
    host.move().relocate()
    host.has_docker = True
    host.move().roll_back()
    assert host.up
    assert host.assert_on_one_side() == "theirs"
    assert host.move().journal.phase == journal.ROLLED_BACK


def test_rollback_brings_everything_back_with_what_was_written_since(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = AdoptionHost(memory_path, monkeypatch)
    host.move().relocate()
    Path(host.stores["docker"], "volumes", "later").touch()
    Path(host.volume, BALLAST).touch()
    assert host.move().stops.endswith("start again with their filesystem where it was.")
    (line,) = host.move().written_since()
    assert "nothing is left behind" in line
    host.move().roll_back()
    host.assert_whole(set(RAN))
    assert host.assert_on_one_side() == "theirs"
    assert Path(host.stores["docker"], "volumes", "later").exists()
    assert not Path(host.filesystem, BALLAST).exists()
    assert host.move().journal.phase == journal.ROLLED_BACK
    assert not host.drop_in.exists()


def test_docker_that_is_back_and_needs_more_time_is_not_stopped_again(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = AdoptionHost(memory_path, monkeypatch)
    host.move().relocate()
    host.slow = True
    with pytest.raises(Failed, match="Docker has not started within"):
        host.move().roll_back()
    host.slow = False
    host._start_docker()  # it has come up by itself
    host.disk.events.clear()
    host.move().recover()
    assert not [event for event in host.disk.events if event.startswith(("systemctl stop", "umount"))]
    host.assert_whole({"web"})
    assert host.assert_on_one_side() == "theirs"


def test_copy_that_fails_leaves_nothing_in_the_new_place(host: AdoptionHost, monkeypatch: pytest.MonkeyPatch) -> None:
    # Somebody has copied a store of ours here, with its marker.
    Path(host.filesystem, MARKER).touch()
    monkeypatch.setattr(outage, "under_way", lambda _: ["a build"])
    with pytest.raises(Failed, match="still under way after 0 s: a build"):
        host.move().relocate()
    assert not [event for event in host.disk.events if event.startswith("umount") and host.stores["docker"] in event]
    Path(host.filesystem, MARKER).unlink()
    host.assert_whole(set(RAN))
    assert host.assert_on_one_side() == "theirs"
    assert "stop web plain" not in host.disk.events


def test_filesystem_that_has_got_containerds_images_does_not_go_back(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = AdoptionHost(memory_path, monkeypatch, images=True)
    host.move().relocate()
    with pytest.raises(Failed, match="holds containerd's images, which the filesystem did not have before"):
        host.move().roll_back()
    host.assert_whole(set(RAN))


# -- the tree


def _flat(top: Path) -> dict[str, str]:
    for name in ("image", "docker", "containerd", "lost+found", "containerd.moving"):
        (top / name).mkdir(parents=True)
        (top / name / "file").write_text(name)
    (top / "engine-id").write_text("1")
    os.chmod(top, 0o710)
    return _files(top)


def _files(top: Path) -> dict[str, str]:
    return {str(path.relative_to(top)): path.read_text() for path in top.rglob("*") if path.is_file()}


def test_tree_is_gathered_and_scattered(tmp_path: Path) -> None:
    before = _flat(tmp_path)
    gather(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["containerd.moving", "docker", "lost+found"]
    assert sorted(os.listdir(tmp_path / "docker")) == [MARKER, "containerd", "docker", "engine-id", "image"]
    assert not is_flat(str(tmp_path))
    (tmp_path / "containerd").mkdir()
    (tmp_path / "containerd" / MARKER).touch()
    for _ in range(2):  # the second time there is nothing to do
        scatter(str(tmp_path), is_copy=False)
        assert _files(tmp_path) == before
        assert is_flat(str(tmp_path))
    assert os.stat(tmp_path).st_mode & 0o777 == 0o710


def test_file_that_is_in_the_way_is_never_overwritten(tmp_path: Path) -> None:
    _flat(tmp_path)
    gather(str(tmp_path))
    (tmp_path / "engine-id").write_text("2")
    with pytest.raises(Failed, match="engine-id is in the way of"):
        scatter(str(tmp_path), is_copy=False)
    assert (tmp_path / "engine-id").read_text() == "2"
    assert (tmp_path / ADOPTING / "engine-id").read_text() == "1"


@pytest.mark.parametrize(("is_copy", "kept"), [(True, "containerd.moving"), (False, "containerd.left-1")])
def test_containerds_store_is_put_away_on_the_way_back(tmp_path: Path, is_copy: bool, kept: str) -> None:
    (tmp_path / "image").mkdir()
    gather(str(tmp_path))
    (tmp_path / "containerd").mkdir()
    (tmp_path / "containerd" / MARKER).touch()
    (tmp_path / "containerd" / "content").touch()
    scatter(str(tmp_path), is_copy=is_copy)
    assert sorted(os.listdir(tmp_path)) == [kept, "image"]
    assert os.listdir(tmp_path / kept) == ["content"]
