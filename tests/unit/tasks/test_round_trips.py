"""How often a host is asked: a run that finds nothing to do needs two commands, and its dry run one."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyinfra.facts.files import FileContents

from pyinfra_lvm.collection import Answers
from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.model import FstabEntry, Storage
from settings.model import Settings
from tasks.daemon import DaemonJson, DaemonJsonFiles
from tasks.engine import EngineInstallation, EngineState
from tasks.preflight.facts import HostFacts
from tasks.preflight.host import HostState
from tasks.program import InstalledProgram, digest
from tasks.support.archive import archive
from tasks.support.daemon_keys import text
from tasks.support.files import FileStates
from tasks.support.gpu import GpuContainers
from tasks.support.package_names import ENGINE
from tasks.support.packages import Offer, PackageStates
from tasks.support.repository import RepositoryEntry, RepositoryState
from tasks.support.run_lock import Holder, RunLockHolder
from tasks.support.units import SystemdFiles, UnitFiles
from tasks.volume import VolumeContents
from tasks.watch import JournalLimits

from .deployment import Deployment, deployed
from .example_hosts import bare_host, converged, docker_host, our_docker_ce_host, settings, shared_vg
from .operations import OperationHost
from .preflight.verdicts import plan_of
from .test_volume import DIRECTORIES, MARKERS

TOP = Path(__file__).parents[3]
TOOLS = ("lvm2", "e2fsprogs", "python3", "cron")
DEBIAN = docker_host(packages=dict.fromkeys([*TOOLS, *ENGINE["distro"]], "1.0"))
DOCKER_CE = our_docker_ce_host(packages=dict.fromkeys([*TOOLS, *ENGINE["docker-ce"]], "5:29.1.3-1~debian.12~bookworm"))


def fresh_host(state: HostState, storage: Storage) -> OperationHost:
    return OperationHost({HostFacts: state, StorageLayout: storage, RunLockHolder: Holder(), JournalLimits: []})


def host_after(run: Deployment, state: HostState, storage: Storage) -> OperationHost:
    """A host that has everything that the operations of a run make."""
    units: dict[str, str] = {}
    wanted: dict[str, str] = {}
    facts: dict[Any, Any] = {
        HostFacts: state,
        RunLockHolder: Holder(),
        PackageStates: dict.fromkeys(state.packages, "installed"),
        EngineInstallation: EngineState(Offer(state.packages, frozenset()), running=True),
        VolumeContents: DIRECTORIES | MARKERS,
        InstalledProgram: digest(archive()),
        JournalLimits: [],
    }
    fstab: list[FstabEntry] = []
    for name, arguments in run.arguments:
        if name.endswith("units.unit_files"):
            units |= arguments["contents"]
        elif name.endswith("files.files"):
            wanted |= {path: file.state for path, file in arguments["wanted"].items() if file}
        elif name.endswith("program.program"):
            facts[FileContents] = arguments["configuration"].splitlines()
        elif name.endswith("daemon.daemon_json"):
            facts[DaemonJson] = DaemonJsonFiles(text(arguments["ours"]), text(arguments["ours"]))
        elif name.endswith("repository.repository"):
            facts[RepositoryEntry] = RepositoryState(arguments["source"], arguments["fingerprint"])
        elif name.endswith("operations.mount"):
            entry = FstabEntry.of(*(arguments[key] for key in ("device", "path", "fstype", "options")))
            fstab.append(entry)
    names = [path.rpartition("/")[2] for path in units]
    facts[SystemdFiles] = UnitFiles(units, False, frozenset(names), 1, dict.fromkeys(names, 2))
    facts[FileStates] = wanted
    facts[StorageLayout] = replace(storage, fstab=tuple(fstab))
    return OperationHost(facts)


def run_on(state: HostState, wanted: Settings, *, dry: bool) -> OperationHost:
    storage = shared_vg()
    volume = converged(storage, plan_of(state, storage, wanted))
    made = deployed("deploy.py", wanted, fresh_host(state, volume))
    host = host_after(made, state, volume)
    deployed("deploy.py", wanted, host, dry=dry)
    return host


@pytest.mark.parametrize(("state", "changes"), [(DEBIAN, {}), (DOCKER_CE, {"engine_source": "docker-ce"})])
@pytest.mark.parametrize(("dry", "commands"), [(True, 1), (False, 2)], ids=["dry", "run"])
def test_host_that_is_as_it_should_be_is_asked_by_so_many_commands(
    state: HostState, changes: dict[str, Any], dry: bool, commands: int
) -> None:
    host = run_on(state, settings(**changes), dry=dry)
    assert host.events == host.logged, "nothing is changed"
    assert host.asked == [Answers] * commands


def test_fresh_host_is_asked_once_before_its_first_change_and_once_under_the_lock() -> None:
    host = fresh_host(bare_host(), shared_vg())
    run = deployed("deploy.py", settings(), host, dry=False)
    asked = [fact for fact in host.asked if fact is not GpuContainers]
    assert asked[:2] == [Answers, Answers]
    # From the first operation on that has something to do each asks for itself. A fact more or a command more is a round trip more.
    assert (len(asked), sum(map(len, run.ran.values()))) == (26, 47)


def test_every_operation_ends_the_answers_about_the_host() -> None:
    scripts = [TOP / "deploy.py", TOP / "undeploy.py"]
    for path in [*scripts, *(TOP / "tasks").rglob("*.py"), *(TOP / "pyinfra_lvm").glob("*.py")]:
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        names = [
            alias.name for node in imports if (node.module or "").startswith("pyinfra.api") for alias in node.names
        ]
        assert "operation" not in names, f"{path.name}: the decorator is pyinfra_lvm.collection.operation"
        modules = [
            *(node.module or "" for node in imports),
            *(f"{node.module}.{name.name}" for node in imports for name in node.names),
        ]
        assert not [module for module in modules if module.startswith("pyinfra.operations")], (
            f"{path.name}: pyinfra's own do not"
        )
