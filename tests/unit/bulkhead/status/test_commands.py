"""`bulkhead status` for people and for programs."""

from __future__ import annotations

import argparse
import json

import pytest

from bulkhead import state
from bulkhead.move import commands as move_commands
from bulkhead.snapshot import snapshots
from bulkhead.snapshot.snapshots import Snapshot
from bulkhead.status import commands
from bulkhead.status.commands import as_json
from bulkhead.status.report import DataLocation
from bulkhead.storage import lvm
from bulkhead.watch import check
from bulkhead.watch.results import WARNING, CheckResult

from ..configs import config
from .example_status import NOW, VOLUME, G, example_status


def test_json_has_dockers_move_at_the_top_and_the_others_by_their_directories() -> None:
    models = DataLocation("/srv/models", "/srv/models is on its volume.", "done", NOW, "", {"/srv/models": G})
    shown = as_json(example_status(places=[models, *example_status().places]))
    assert (shown["phase"], shown["since"], shown["reason"], shown["old"]) == ("finalized", NOW - 86400, "", {})
    assert shown["under_way"] is False
    assert shown["extra_volumes"]["/srv/models"]["old"] == {"/srv/models": G}


def test_json_has_the_figures(machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    machine.setattr(check, "collect", lambda *_: (example_status().observation, {}))
    machine.setattr(snapshots, "ours", lambda _: [Snapshot("before", G, 41.5, 7)])
    machine.setattr(lvm, "list_disk_room", lambda: [lvm.DiskRoom("/dev/vdb", "docker-vg", 3)])
    machine.setattr(move_commands, "moves", lambda *_: [])
    aborted = {"time": NOW, "words": "make", "written": G, "id": "what else it remembers"}
    guard = {"time": NOW, "floor": G, "free": G, "ballast": 0, "rate": 0.0, "aborted": [aborted]}
    state.save("guard", {**guard, "inode_floor": 196_608, "inodes_free": 3_000_000})
    assert commands.run(config(), argparse.Namespace(json=True)) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [round(filesystem["percent"]) for filesystem in shown["filesystems"]] == [50, 95]
    assert shown["forecasts"][VOLUME]["seconds_left"] == 3 * 3600
    assert shown["usage"]["images"] == 30 * G
    assert shown["guard"]["aborted"][0]["words"] == "make"
    assert (shown["guard"]["inode_floor"], shown["guard"]["inodes_free"]) == (196_608, 3_000_000)
    assert shown["taken"] == {"before": 7}
    assert shown["disk_room"] == [{"disk": "/dev/vdb", "group": "docker-vg", "room": 3}]


def test_output_to_a_file_has_no_colours(machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    machine.setattr(move_commands, "moves", lambda *_: [])
    assert commands.run(config(), argparse.Namespace(json=False)) == 0
    assert "\033" not in capsys.readouterr().out


@pytest.mark.parametrize("columns", [45, 150])
def test_page_is_as_wide_as_the_terminal(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    observation = example_status().observation
    observation.results.append(CheckResult("reserve:ubuntu-vg", WARNING, "word " * 60))
    machine.setattr(check, "collect", lambda *_: (observation, {}))
    machine.setattr(move_commands, "moves", lambda *_: [])
    machine.setenv("COLUMNS", str(columns))
    assert commands.run(config(), argparse.Namespace(json=False)) == 0
    assert columns - 5 <= max(map(len, capsys.readouterr().out.splitlines())) <= columns
