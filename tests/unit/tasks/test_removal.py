"""When this project may be removed from a host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pyinfra.context import ctx_host

from bulkhead.names import MARKER, SNAPSHOT_TAG
from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.model import Directory, Storage
from tasks import fail_closed, removal
from tasks.daemon import DaemonJson, DaemonJsonFiles
from tasks.preflight.facts import HostFacts
from tasks.preflight.finding import Finding
from tasks.preflight.host import HostState
from tasks.support.files import Present
from tasks.support.paths import DROP_INS, EPHEMERAL_SCRIPT, EPHEMERAL_UNIT, TAG
from tasks.support.run_lock import Holder, RunLockHolder

from .deployment import Deployment, deployed
from .example_hosts import (
    DEVICE,
    GIB,
    MOUNT_POINTS,
    OWN_DISK,
    VOLUME_MOUNT,
    adopted_disk,
    converged,
    our_docker_ce_host,
    own_disk,
    settings,
    shared_vg,
    with_docker_volume,
    with_fstab,
    with_volume,
)
from .operations import OperationHost, calls, commands, noting, shell, stand_in
from .preflight.verdicts import plan_of

VOLUME = with_docker_volume(tags=(TAG,))


def judge(state: HostState, storage: Storage = VOLUME, lock_holder: str = "") -> list[Finding]:
    return removal.judge(settings(), state, storage, lock_holder)


@pytest.mark.parametrize("phase", ["", "finalized", "rolled-back", "failed"])
def test_project_can_be_removed_from_a_host_with_its_data_in_one_place(phase: str) -> None:
    assert judge(our_docker_ce_host(relocation=phase)) == []


@pytest.mark.parametrize(
    ("phase", "found"),
    [
        ("done", "the old data of a move is kept on the root disk"),
        ("finalizing", "the old data of a move is kept on the root disk"),
        ("copying", "has not ended"),
        ("returning", "has not ended"),
    ],
)
def test_project_stays_on_a_host_with_two_trees_of_data(phase: str, found: str) -> None:
    for moves in ({"relocation": phase}, {"moves": {"/var/lib/bulkhead/relocation-home.json": phase}}):
        (finding,) = judge(our_docker_ce_host(**moves))
        assert found in finding.found


def test_project_stays_until_a_rollback_has_ended() -> None:
    (finding,) = judge(our_docker_ce_host(rollback="stopping"))
    assert "a rollback to a snapshot has not ended" in finding.found
    assert "`bulkhead relocate --recover`" in finding.action
    assert judge(our_docker_ce_host(rollback="done")) == []


def test_project_stays_while_containers_that_an_upgrade_stopped_are_down() -> None:
    (finding,) = judge(our_docker_ce_host(stopped_by_upgrade=True))
    assert "has left containers stopped" in finding.found
    assert "run deploy.py" in finding.action


def test_project_is_not_removed_under_another_run_or_without_root() -> None:
    assert "bob" in judge(our_docker_ce_host(), VOLUME, "bob on laptop")[0].found
    assert "not root" in judge(our_docker_ce_host(uid=1000))[0].found


def test_project_stays_while_there_is_a_snapshot_that_nobody_else_would_drop() -> None:
    theirs = with_volume(VOLUME, "ubuntu-vg", "before", GIB, origin="docker-lv")
    assert judge(our_docker_ce_host(), theirs) == []
    ours = with_volume(theirs, "ubuntu-vg", "docker-lv-snapshot", GIB, origin="docker-lv", tags=(SNAPSHOT_TAG,))
    (finding,) = judge(our_docker_ce_host(), ours)
    assert "/dev/ubuntu-vg/docker-lv-snapshot" in finding.found
    assert "bulkhead snapshot drop" in finding.action


def test_project_stays_until_a_snapshot_is_merged() -> None:
    tags = (SNAPSHOT_TAG,)
    storage = with_volume(VOLUME, "ubuntu-vg", "docker-lv-snapshot", GIB, origin="docker-lv", tags=tags, merging=True)
    (finding,) = judge(our_docker_ce_host(), storage)
    assert "still merging" in finding.found
    assert "wait" in finding.action


def test_project_stays_on_a_host_that_has_lost_its_volume() -> None:
    for state, storage in (
        (our_docker_ce_host(), with_fstab(shared_vg(), DEVICE, VOLUME_MOUNT)),
        (our_docker_ce_host(configured_volume=DEVICE), shared_vg()),
    ):
        (finding,) = judge(state, storage)
        assert finding.found == "the volume ubuntu-vg/docker-lv for /srv/docker-volume is not there"
        assert finding.needed.startswith("Docker's volume on /srv/docker-volume: ")
        assert "Docker would start on the root disk, with nothing of its data" in finding.needed
        assert "attach the disk again; or run deploy.py" in finding.action


def test_extra_volume_that_is_lost_keeps_no_host() -> None:
    wanted = settings(
        extra_volumes={
            name: {"mount": path, "size": "5G"} for name, path in {"a-lv": "/home", "z-lv": "/var/opt"}.items()
        }
    )
    lost = {"/home": "/dev/mapper/ubuntu--vg-a--lv", "/var/opt": "/dev/mapper/ubuntu--vg-z--lv"}
    assert removal.judge(wanted, our_docker_ce_host(configured_extra_volumes=lost), VOLUME, "") == []


def test_project_can_be_removed_from_a_host_without_a_volume_whose_docker_is_back_on_its_old_data() -> None:
    assert judge(our_docker_ce_host(relocation="rolled-back", configured_volume=DEVICE), shared_vg()) == []


def test_project_stays_while_a_mount_is_missing_without_which_docker_does_not_start() -> None:
    whole = converged(shared_vg(), plan_of(our_docker_ce_host(), shared_vg()))
    assert judge(our_docker_ce_host(fails_closed=True), whole) == []
    for missing in MOUNT_POINTS:
        half = replace(whole, mounts=tuple(mount for mount in whole.mounts if mount.target != missing))
        (finding,) = judge(our_docker_ce_host(fails_closed=True), half)
        assert finding.found == f"nothing is mounted on {missing}"
        assert "run deploy.py, which mounts them" in finding.action
        assert judge(our_docker_ce_host(), half) == [], "the host is removed from already, or was never provisioned"


def test_adopted_filesystem_may_stay_the_volume_or_be_where_it_was() -> None:
    wanted, after = settings(adopt_filesystem=True), {"configured_volume": OWN_DISK}
    adopted = our_docker_ce_host(fails_closed=True, relocation="finalized", **after)
    assert removal.judge(wanted, adopted, adopted_disk(), "") == []
    back = our_docker_ce_host(relocation="rolled-back", **after)
    assert removal.judge(wanted, back, own_disk(), "") == []
    (found,) = removal.judge(
        wanted, our_docker_ce_host(fails_closed=True, relocation="done", **after), adopted_disk(), ""
    )
    assert "the old data of a move is kept" in found.found


def left(storage: Storage = VOLUME) -> Deployment:
    """Undeploy a host."""
    applied = DaemonJsonFiles("{}", "{}")
    facts = {HostFacts: our_docker_ce_host(), StorageLayout: storage, RunLockHolder: Holder(), DaemonJson: applied}
    present = [*(f"{path}/{MARKER}" for path in MOUNT_POINTS), "/etc/bulkhead", "/usr/local/bin/bulkhead"]
    return deployed("undeploy.py", settings(), OperationHost(facts | {Present: present}))


@pytest.mark.parametrize("state", [our_docker_ce_host(uid=1000), None], ids=["refused", "cannot be read"])
def test_nothing_is_done_to_a_host_that_is_refused_or_cannot_be_read(state: HostState | None) -> None:
    failed: list[str] = []
    host = OperationHost({HostFacts: state, StorageLayout: VOLUME, RunLockHolder: Holder()})
    host.state.fail_hosts = lambda hosts: failed.extend(one.name for one in hosts)
    assert deployed("undeploy.py", settings(), host).names == []
    assert failed == (["web-1"] if state else [])
    assert ["not root" in message for message in host.logged] == ([True] if state else [])


def test_facts_that_cannot_be_read_under_the_lock_leave_the_host_as_it_is() -> None:
    host = OperationHost({HostFacts: None, StorageLayout: VOLUME, RunLockHolder: Holder()})
    (command,) = commands(removal.hold_the_lock, host, settings=settings())
    assert "web-1 was left untouched: its facts could not be read" in command


@pytest.mark.parametrize("executing", [True, False])
def test_lock_is_taken_when_pyinfra_executes(monkeypatch: pytest.MonkeyPatch, executing: bool) -> None:
    taken: list[bool] = []
    monkeypatch.setattr(removal.run_lock, "collect", lambda _, take: taken.append(take) or "")
    host = _host(our_docker_ce_host(), VOLUME)
    host.state.is_executing = executing
    assert commands(removal.hold_the_lock, host, settings=settings()) == []
    assert taken == ([True] if executing else [])
    with ctx_host.use(host):
        assert removal.inspect(settings())
    assert not taken[-1]


def test_docker_runs_with_the_hosts_own_keys_before_it_may_start_without_the_volume() -> None:
    names = left().names
    own, free = (
        "daemon.json has only the host's own keys",
        "docker.service and containerd.service no longer need the volume",
    )
    assert names.index(own) < names.index(free)
    assert names[0] == "One run at a time, on a host that can do without this project"


def test_every_file_of_the_project_goes_and_the_markers_with_them() -> None:
    with pytest.MonkeyPatch.context() as patched:
        asked: list[str] = []
        patched.setattr(removal.files, "removed", lambda paths, **_: asked.extend(paths))
        patched.setattr(removal, "mutable", lambda **_: None)
        for module, function in ((removal, "hold_the_lock"), (removal.daemon, "remove_our_keys")):
            patched.setattr(module, function, lambda **_: None)
        for module in (removal.ephemeral, removal.watch, removal.prune, removal.guard):
            patched.setattr(module, "removed", lambda *_: None)
        patched.setattr(removal.fail_closed, "given_up", lambda *_: None)
        patched.setattr(removal, "fact", lambda _: Storage())
        removal.remove._inner(settings())  # type: ignore[attr-defined]
    assert {f"{path}/{MARKER}" for path in MOUNT_POINTS} <= set(asked)
    assert {"/usr/local/bin/bulkhead", "/etc/bulkhead", "/var/lib/bulkhead", "/run/bulkhead"} <= set(asked)


def test_docker_starts_after_its_volume_as_long_as_fstab_has_it() -> None:
    whole = converged(shared_vg(), plan_of(our_docker_ce_host(), shared_vg()))
    arguments = {name: given for name, given in left(whole).arguments if DROP_INS.keys() == set(given.get("units", ()))}
    assert arguments == {
        "tasks.support.units.unit_files": {"contents": fail_closed.ordering(), "units": list(DROP_INS)}
    }
    (name,) = {name for name, given in left().arguments if DROP_INS.keys() == set(given.get("units", ()))}
    assert name == "tasks.support.units.unit_files_removed"


def test_no_boot_makes_the_volume_anew_any_more() -> None:
    paths = [path for name, arguments in left().arguments for path in arguments.get("paths", []) if "units" in name]
    assert {EPHEMERAL_UNIT, EPHEMERAL_SCRIPT} <= {*paths}


def test_file_that_is_the_disk_stays_with_its_unit() -> None:
    run = left()
    done = "\n".join(str(command) for commands in run.ran.values() for command in commands)
    assert done
    assert "docker-disk" not in done


def test_directories_beneath_the_mounts_can_be_written_to_again_and_only_they(tmp_path: Path) -> None:
    beneath = [Directory(str(tmp_path / name), "directory", immutable=name != "mine") for name in ("a b", "mine")]
    host = OperationHost({StorageLayout: Storage(directories=tuple(beneath))})
    paths = [directory.path for directory in beneath]
    (command,) = commands(removal.mutable, host, paths=paths)
    (tmp_path / "bin").mkdir()
    stand_in(tmp_path / "bin", "unshare", '[ "$1 $2 $3" = "--mount --propagation private" ] && shift 3 && exec "$@"')
    for program in ("mount", "chattr"):
        stand_in(tmp_path / "bin", program, noting(tmp_path / "bin", program))
    assert shell(command, tmp_path / "bin").returncode == 0
    assert calls(tmp_path / "bin") == [f"mount --bind {tmp_path} /mnt", "chattr -R -i /mnt/a b"]
    none = OperationHost({StorageLayout: Storage(directories=(beneath[1],))})
    assert commands(removal.mutable, none, paths=paths) == []


def _host(state: HostState, storage: Storage, holder: str = "") -> OperationHost:
    return OperationHost({HostFacts: state, StorageLayout: storage, RunLockHolder: Holder(holder)})


def test_host_is_judged_again_under_the_lock() -> None:
    assert commands(removal.hold_the_lock, _host(our_docker_ce_host(), VOLUME), settings=settings()) == []
    lost = _host(our_docker_ce_host(configured_volume=DEVICE), shared_vg())
    (command,) = commands(removal.hold_the_lock, lost, settings=settings())
    assert "web-1 was left untouched: 1 finding" in command
    assert "is not there" in command
    (command,) = commands(removal.hold_the_lock, _host(our_docker_ce_host(), VOLUME, "bob"), settings=settings())
    assert "another run is under way: bob" in command
