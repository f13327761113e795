"""What systemd says of files of ours and of their units, and what is done about it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.support import units
from tasks.support.gpu import GpuContainers
from tasks.support.units import SystemdFiles, UnitFiles

from ..operations import OperationHost, commands, shell

SHOWN = """\
Id=docker-prune.service
ActiveState=inactive
UnitFileState=static
NeedDaemonReload=no
ExecMainStartTimestamp=

Id=docker-prune.timer
ActiveState=active
UnitFileState=enabled
NeedDaemonReload={reload}

Id=docker-guard.service
ActiveState=active
UnitFileState=enabled
NeedDaemonReload=no
ExecMainStartTimestamp=Mon 2025-11-24 21:55:00 UTC
file 1764021299 /etc/systemd/system/docker-prune.timer
=[Timer]
=
=OnCalendar=*-*-* 03:00:00
file 1764021301 /etc/systemd/system/docker-guard.service
=[Service]"""

GUARD = "/etc/systemd/system/docker-guard.service"
TIMER = "/etc/systemd/system/docker-prune.timer"
TIMER_TEXT = "[Timer]\n\nOnCalendar=*-*-* 03:00:00\n"


def read(reload: str = "no") -> UnitFiles:
    return SystemdFiles().process(SHOWN.format(reload=reload).splitlines())


def test_contents_are_read_line_by_line() -> None:
    assert read().contents == {TIMER: TIMER_TEXT, GUARD: "[Service]\n"}


def test_only_what_is_enabled_and_active_is_up() -> None:
    assert read().up == {"docker-prune.timer", "docker-guard.service"}


def test_change_that_systemd_has_not_read_is_seen() -> None:
    assert not read().needs_reload
    assert read(reload="yes").needs_reload


def test_it_is_known_when_the_files_were_written_and_services_started() -> None:
    assert read().changed == 1764021301
    assert read().started == {"docker-guard.service": 1764021300}


@pytest.mark.parametrize(
    ("paths", "units", "found"),
    [
        (
            [GUARD],
            ["docker-guard.service"],
            UnitFiles(
                {GUARD: "[Service]\n"}, False, frozenset({"docker-guard.service"}), 1764021301, {GUARD[20:]: 1764021300}
            ),
        ),
        ([TIMER], ["docker-prune.timer"], UnitFiles({TIMER: TIMER_TEXT}, True, frozenset({TIMER[20:]}), 1764021299)),
    ],
    ids=["service", "timer"],
)
def test_answer_is_about_those_that_were_asked_for_and_not_about_others_beside_them(
    paths: list[str], units: list[str], found: UnitFiles
) -> None:
    fact = SystemdFiles()
    fact.command(paths, units)
    assert fact.process(SHOWN.format(reload="yes").splitlines()) == found


def test_files_are_asked_for_with_their_times_and_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "systemctl").write_text('#!/bin/sh\n[ "$1 $TZ" = "show UTC" ] && echo Id=a.service\n')
    (tmp_path / "systemctl").chmod(0o755)
    (tmp_path / "a b.service").write_text("[Service]\nfile 1 /etc/passwd\n")
    command = SystemdFiles().command([f"{tmp_path}/a b.service", f"{tmp_path}/none"], ["a.service"])
    done = subprocess.run(
        ["sh", "-c", command], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    found = SystemdFiles().process(done.stdout.splitlines())
    assert found.contents == {f"{tmp_path}/a b.service": "[Service]\nfile 1 /etc/passwd\n"}
    assert found.changed == int((tmp_path / "a b.service").stat().st_mtime)


# -- what is done about it


UP = UnitFiles(
    {GUARD: "new\n"}, False, frozenset({"docker-guard.service"}), changed=100, started={"docker-guard.service": 100}
)


def kept(found: UnitFiles, content: str = "new\n") -> list[str]:
    return commands(
        units.unit_files,
        OperationHost({SystemdFiles: found}),
        contents={GUARD: content},
        units=["docker-guard.service"],
        services=["docker-guard.service"],
    )


@pytest.mark.parametrize("started", [100, 105])
def test_service_that_runs_by_its_file_is_left_alone(started: int) -> None:
    assert kept(replace(UP, started={"docker-guard.service": started})) == []


def test_service_whose_file_changes_runs_by_the_new_one() -> None:
    write, *others = kept(UP, "newer\n")
    assert write.endswith("sync /etc/systemd/system")
    assert others == [
        "systemctl daemon-reload",
        "systemctl enable --quiet --no-reload docker-guard.service",
        "systemctl restart docker-guard.service",
    ]


@pytest.mark.parametrize(
    "left",
    [
        UnitFiles(UP.contents, False, frozenset(), 100, UP.started),
        UnitFiles(UP.contents, False, UP.up, 101, UP.started),
    ],
    ids=["not enabled or not active", "older than its file"],
)
def test_service_that_a_cut_run_left_behind_is_restarted(left: UnitFiles) -> None:
    assert kept(left) == [
        "systemctl enable --quiet --no-reload docker-guard.service",
        "systemctl restart docker-guard.service",
    ]


def test_timer_gets_a_stamp_before_it_is_restarted_and_a_service_none() -> None:
    paths = {f"/etc/systemd/system/{name}": "" for name in ("a.timer", "b.service")}
    done = commands(
        units.unit_files,
        OperationHost({SystemdFiles: UnitFiles({}, False, frozenset())}),
        contents=paths,
        units=["a.timer", "b.service"],
        timers=["a.timer"],
        services=["b.service"],
    )
    assert done[-1] == (
        "mkdir -p /var/lib/systemd/timers && touch /var/lib/systemd/timers/stamp-a.timer && "
        "systemctl restart a.timer b.service"
    )


def test_what_is_removed_is_stopped_first_and_nothing_is_done_twice() -> None:
    arguments: dict[str, Any] = {
        "paths": [GUARD],
        "units": ["docker-guard.service"],
        "services": ["docker-guard.service"],
    }
    assert commands(units.unit_files_removed, OperationHost({SystemdFiles: UP}), **arguments) == [
        "systemctl disable --quiet --no-reload --now docker-guard.service",
        f"rm -f {GUARD}",
        "systemctl daemon-reload",
    ]
    assert commands(units.unit_files_removed, OperationHost(), **arguments) == []


def test_containers_with_gpus_are_named_before_systemd_is_reloaded_and_only_then() -> None:
    arguments: dict[str, Any] = {"contents": {GUARD: "new\n"}, "units": ["docker-guard.service"]}
    host = OperationHost({SystemdFiles: UP, GpuContainers: ["train"]})
    commands(units.unit_files, host, **arguments)
    assert host.logged == []
    for found in (UnitFiles({}, False, frozenset()), UnitFiles(UP.contents, True, UP.up)):
        host = OperationHost({SystemdFiles: found, GpuContainers: ["train"]})
        commands(units.unit_files, host, **arguments)
        assert "systemd is reloaded while containers with GPUs run: train." in host.events[0]
    host = OperationHost({SystemdFiles: UP, GpuContainers: ["train"]})
    commands(units.unit_files_removed, host, paths=[GUARD], units=["docker-guard.service"])
    assert "systemd is reloaded while containers with GPUs run: train." in host.events[0]


def test_drop_in_goes_without_those_of_others_and_its_directory_only_if_it_is_empty(tmp_path: Path) -> None:
    ours, theirs, alone = (
        tmp_path / name for name in ("a.service.d/10-x.conf", "a.service.d/own.conf", "b.service.d/10-x.conf")
    )
    for path in (ours, theirs, alone):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = UnitFiles({str(path): "" for path in (ours, alone)}, False, frozenset())
    done = commands(
        units.unit_files_removed,
        OperationHost({SystemdFiles: found}),
        paths=[str(ours), str(alone)],
        units=["a.service", "b.service"],
    )
    assert done[-1] == "systemctl daemon-reload"
    assert len(done) == 3, "a service of others is not disabled"
    for command in done[:-1]:
        assert shell(command, tmp_path).returncode == 0
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == [
        theirs.relative_to(tmp_path)
    ]
    assert not alone.parent.exists()


def test_timer_that_is_removed_leaves_no_stamp_and_a_service_has_none() -> None:
    paths = [f"/etc/systemd/system/{name}" for name in ("a.timer", "a.service", "b.service")]
    found = UnitFiles(dict.fromkeys(paths[:2], ""), False, frozenset())
    assert commands(
        units.unit_files_removed,
        OperationHost({SystemdFiles: found}),
        paths=paths,
        units=["a.timer", "a.service", "b.service"],
        timers=["a.timer"],
        services=["b.service"],
    ) == [
        "systemctl disable --quiet --no-reload --now a.timer",
        "rm -f /var/lib/systemd/timers/stamp-a.timer",
        f"rm -f {' '.join(paths)}",
        "systemctl daemon-reload",
    ]


def test_removal_that_was_cut_before_systemd_knew_of_it_is_finished() -> None:
    left = UnitFiles({}, True, frozenset())
    done = commands(
        units.unit_files_removed, OperationHost({SystemdFiles: left}), paths=[GUARD], units=["docker-guard.service"]
    )
    assert done[-1] == "systemctl daemon-reload"


def test_file_that_systemd_has_not_read_is_not_written_again() -> None:
    assert kept(UnitFiles(UP.contents, True, UP.up, 100, UP.started)) == [
        "systemctl daemon-reload",
        "systemctl enable --quiet --no-reload docker-guard.service",
        "systemctl restart docker-guard.service",
    ]


def test_only_files_that_differ_are_written() -> None:
    other = "/etc/systemd/system/other.service"
    found = UnitFiles({GUARD: "new\n", other: "old\n"}, False, frozenset())
    done = commands(
        units.unit_files,
        OperationHost({SystemdFiles: found}),
        contents={GUARD: "new\n", other: "new\n"},
        units=["x.service"],
    )
    assert [GUARD in command for command in done] == [False, False]
    assert other in done[0]


def test_unit_that_is_active_but_not_enabled_or_the_reverse_is_not_up() -> None:
    def up(active: str, file: str) -> frozenset[str]:
        return SystemdFiles().process(["Id=a.timer", f"ActiveState={active}", f"UnitFileState={file}"]).up

    assert up("active", "enabled") == {"a.timer"}
    assert up("active", "disabled") == up("inactive", "enabled") == up("failed", "enabled") == frozenset()
