"""The gate: what it asks of a host, and how it stops one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api import FactBase
from pyinfra.context import ctx_host

from pyinfra_lvm.collection import Answers, Question
from pyinfra_lvm.facts import WHOLE_DISKS, StorageLayout
from pyinfra_lvm.model import Storage
from tasks.preflight import gate
from tasks.preflight.facts import HostFacts
from tasks.preflight.host import Container, EngineData, HostState
from tasks.support.gpu import GpuContainers
from tasks.support.paths import VOLUME_FILE_DEVICE
from tasks.support.run_lock import Holder, RunLockHolder

from ..example_hosts import MOUNT_POINTS, bare_host, converged, docker_host, our_docker_ce_host, settings, shared_vg
from ..operations import OperationHost, commands
from .verdicts import plan_of


def inspected(storage: Storage, **changes: object) -> OperationHost:
    host = OperationHost(
        {
            HostFacts: our_docker_ce_host(),
            StorageLayout: storage,
            RunLockHolder: Holder(),
            GpuContainers: ["train"],
        }
    )
    with ctx_host.use(host):
        assert gate.inspect(settings(**changes))
    return host


def test_containers_with_gpus_are_named_before_volumes_are_mounted_and_only_then() -> None:
    fresh = plan_of(our_docker_ce_host(), shared_vg())
    whole = converged(shared_vg(), fresh)
    assert inspected(whole).logged == []
    for missing in MOUNT_POINTS:
        (warning,) = inspected(replace(whole, mounts=tuple(m for m in whole.mounts if m.target != missing))).logged
        assert "systemd is reloaded for the mounts while containers with GPUs run: train." in warning


def test_containers_with_gpus_are_named_before_mount_options_change() -> None:
    whole = converged(shared_vg(), plan_of(our_docker_ce_host(), shared_vg()))
    (warning,) = inspected(whole, volume_mount_options=["noatime"]).logged
    assert "systemd is reloaded for the mounts while containers with GPUs run: train." in warning
    lines = tuple(entry._replace(options=(*entry.options, "noatime")) for entry in whole.fstab)
    assert inspected(replace(whole, fstab=lines), volume_mount_options=["noatime"]).logged == []


def _host(state: HostState, storage: Storage, holder: str = "") -> OperationHost:
    return OperationHost({HostFacts: state, StorageLayout: storage, RunLockHolder: Holder(holder)})


def test_host_that_is_refused_fails_with_its_findings_while_pyinfra_prepares() -> None:
    failed: list[str] = []
    host = _host(bare_host(architecture="i386"), shared_vg(), holder="bob on laptop")
    host.state = SimpleNamespace(is_executing=False, fail_hosts=lambda hosts: failed.extend(one.name for one in hosts))
    with ctx_host.use(host):
        assert gate.inspect(settings()) is None
    (message,) = host.logged
    assert message.startswith("web-1 was left untouched: 2 findings")
    assert failed == ["web-1"]


def test_warnings_are_shown_before_the_run() -> None:
    whole = converged(shared_vg(), plan_of(our_docker_ce_host(), shared_vg()))
    host = _host(our_docker_ce_host(), whole)
    with ctx_host.use(host):
        assert gate.inspect(settings(volume_size="50G"))
    assert [line for line in host.logged if line.startswith("Warning: the volume has 60.0 GiB, more than the 50.0 GiB")]


def test_move_that_is_under_way_is_waited_for_and_the_host_examined_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    host = _host(our_docker_ce_host(relocation_under_way=True, relocation="copying"), shared_vg())
    monkeypatch.setattr(gate.relocation, "join", lambda host: host.facts.update({HostFacts: our_docker_ce_host()}))
    with ctx_host.use(host):
        assert gate.inspect(settings())
    assert "A move of data is under way from an earlier run; this one waits for it" in host.logged


def test_lock_is_taken_for_the_run_and_not_while_pyinfra_prepares(monkeypatch: pytest.MonkeyPatch) -> None:
    host, taken = _host(bare_host(), shared_vg()), []
    collect = gate.run_lock.collect
    monkeypatch.setattr(
        gate.run_lock, "collect", lambda questions, take: taken.append(take) or collect(questions, take=take)
    )
    with ctx_host.use(host):
        plan = gate.inspect(settings())
    commands(gate.hold_the_lock, host, settings=settings(), plan=plan)
    assert taken == [False, True]


def test_living_host_is_told_what_the_run_does_before_it() -> None:
    state = docker_host(
        docker_data=EngineData(images=1), containers=(Container("web", "running", "i", 0, True, False),)
    )
    host = _host(state, shared_vg())
    host.state = SimpleNamespace(is_executing=False)
    with ctx_host.use(host):
        assert gate.inspect(settings())
    note, _ = host.logged
    assert note.startswith("Note: Docker's data moves onto its volume")
    assert "1 container (web)" in note


def test_host_that_has_not_changed_passes_again_under_the_lock() -> None:
    plan = plan_of(bare_host(), shared_vg())
    host = _host(bare_host(), shared_vg())
    assert commands(gate.hold_the_lock, host, settings=settings(), plan=plan) == []


def asked_of(
    monkeypatch: pytest.MonkeyPatch, host: OperationHost, **changes: object
) -> dict[type[FactBase[Any]], dict[str, Any]]:
    """What the gate asks a host: fact → its arguments."""
    found: dict[type[FactBase[Any]], dict[str, Any]] = {}
    answered = host.get_fact

    def get_fact(fact: type[Answers], **arguments: Sequence[Question]) -> object:
        found.update({question.fact: question.arguments for question in arguments["questions"]})
        return answered(fact, **arguments)

    monkeypatch.setattr(host, "get_fact", get_fact)
    with ctx_host.use(host):
        gate._examine_host(settings(**changes), (), take_lock=False)
    return found


@pytest.mark.parametrize(
    ("disks", "read"),
    [("blank", [WHOLE_DISKS]), ("/dev/disk/by-id/a*", ["/dev/disk/by-id/a*"]), (["/dev/vdb"], ["/dev/vdb"]), ([], [])],
)
def test_ends_of_all_disks_are_read_only_for_blank(
    monkeypatch: pytest.MonkeyPatch, disks: object, read: list[str]
) -> None:
    asked = asked_of(monkeypatch, _host(bare_host(), shared_vg()), volume_disks=disks)
    assert asked[StorageLayout]["probe"] == [*read, VOLUME_FILE_DEVICE]


@pytest.mark.parametrize(
    ("source", "asked"), [("distro", ["docker-cli", "docker-buildx"]), ("auto", []), ("docker-ce", []), ("present", [])]
)
def test_apt_is_asked_for_parts_of_the_distributions_engine_alone(
    monkeypatch: pytest.MonkeyPatch, source: str, asked: list[str]
) -> None:
    found = asked_of(monkeypatch, _host(bare_host(), shared_vg()), engine_source=source)
    assert found[HostFacts]["where_offered"] == asked


def test_host_that_has_changed_since_the_first_examination_is_left_untouched() -> None:
    plan = plan_of(bare_host(), shared_vg())
    (command,) = commands(gate.hold_the_lock, _host(docker_host(), shared_vg()), settings=settings(), plan=plan)
    assert "web-1 was left untouched: it has changed since this run examined it. Run again." in command


def test_lock_that_another_run_has_taken_meanwhile_leaves_the_host_untouched() -> None:
    plan = plan_of(bare_host(), shared_vg())
    (command,) = commands(gate.hold_the_lock, _host(bare_host(), shared_vg(), "bob"), settings=settings(), plan=plan)
    assert "another run is under way: bob" in command
