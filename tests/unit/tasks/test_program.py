"""The host program as it is shipped: one file, the same each time, that runs with nothing but Python."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pyinfra.facts.files import FileContents

from bulkhead import __version__
from bulkhead.config import Config
from bulkhead.errors import Problem
from bulkhead.names import CONFIGURATION, PROGRAM, PROGRAM_CONFIGURATION, PROGRAM_RUN, PROGRAM_STATE
from settings.check import defaults
from settings.model import Settings
from tasks import program as task
from tasks.preflight.examine import examine
from tasks.preflight.plan import Plan
from tasks.program import InstalledProgram, configuration, digest
from tasks.support.archive import _shared, archive
from tasks.support.paths import DROP_INS, STORES
from tasks.volume import extra_entry

from .example_hosts import bare_host, settings, shared_vg
from .operations import OperationHost, commands, performed, shell, stand_in

TOP = Path(__file__).parents[3]
MODULES = [path for path in (TOP / "bulkhead").rglob("*.py") if path.parent.name != "__pycache__"]


def plan_of(wanted: Settings) -> Plan:
    plan = examine(wanted, bare_host(), shared_vg()).plan
    assert plan
    return plan


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # -IS, as on a host: nothing of this project's tree or virtual environment can be imported.
    line = [sys.executable, "-IS", program, *arguments]
    return subprocess.run(line, capture_output=True, text=True, cwd=program.parent)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program with its bytecode, as a host has it. Its configuration and its state are in `host` beside it."""
    program = tmp_path_factory.mktemp("program") / "provisioned"
    with zipfile.ZipFile(io.BytesIO(archive())) as shipped, zipfile.ZipFile(program, "w") as packed:
        for name in shipped.namelist():
            text = shipped.read(name).decode()
            for path in (CONFIGURATION, PROGRAM_STATE, PROGRAM_RUN):
                text = text.replace(f'"{path}"', f'"{program.with_name("host")}"')
            packed.writestr(name, text)
    subprocess.run([sys.executable, TOP / "files" / "add-bytecode.py", program, PROGRAM], check=True)
    return program


@pytest.fixture
def provisioned(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the program of a host whose configuration and state are in a directory."""
    monkeypatch.delenv("INVOCATION_ID", raising=False)  # the tests themselves may run in a service
    for name in ("lvs", "pvs", "vgs"):  # nothing of this machine's LVM
        stand_in(tmp_path, name, "")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "bulkhead.json").write_text(configuration(settings(), plan_of(settings())))
    host = program.with_name("host")
    host.unlink(missing_ok=True)
    host.symlink_to(tmp_path)
    return program


UNREAD = ""  # a pipe that nobody reads


def redirected(program: Path, words: str, redirection: str) -> subprocess.CompletedProcess[str]:
    """Run the program with standard streams as the shell redirects them."""
    reader, writer = os.pipe()
    os.close(reader)
    with contextlib.suppress(BrokenPipeError):
        while True:  # a process that another test is just starting may have the other end for a moment
            os.write(writer, b"x")
            time.sleep(0.01)
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-IS", program, *words.split()]
    try:
        return subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writer)


def test_it_is_the_same_from_the_same_source() -> None:
    first = archive()
    archive.cache_clear()
    assert archive() == first
    assert first.startswith(b"#!/usr/bin/python3 -IS\n")


def test_it_runs_by_itself(program: Path) -> None:
    done = run(program, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("bulkhead ")
    for command in ("relocate", "rollback", "finalize", "status"):
        assert run(program, command, "--help").returncode == 0


def test_every_module_is_packed_and_can_be_imported(program: Path) -> None:
    modules = [f"bulkhead.{'.'.join(path.relative_to(TOP / 'bulkhead').with_suffix('').parts)}" for path in MODULES]
    script = "import importlib, sys\nsys.path.insert(0, sys.argv[1])\nfor name in sys.argv[2:]: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-IS", "-c", script, program, *modules], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_folder_of_the_program_is_a_package() -> None:
    """A folder without __init__.py can be imported here, and not from the archive."""
    assert {path.parent for path in MODULES} == {path.parent for path in MODULES if path.name == "__init__.py"}


@pytest.mark.parametrize(
    "line",
    [
        "from pyinfra_lvm import fstab",
        "from pyinfra_lvm.fstab import parse_fstab",
        "import pyinfra_lvm.fstab",
        "import pyinfra_lvm.fstab as tables",
    ],
)
def test_shared_modules_are_found_in_every_form_of_an_import(line: str) -> None:
    found = {str(path.relative_to(TOP)) for path in _shared(f"def f():\n    {line}\n") if path.exists()}
    assert found == {"pyinfra_lvm/__init__.py", "pyinfra_lvm/fstab.py"}


def test_it_imports_nothing_but_pythons_own_library_and_itself() -> None:
    with zipfile.ZipFile(io.BytesIO(archive())) as packed:
        sources = {name: packed.read(name) for name in packed.namelist()}
    own = {name.partition("/")[0].removesuffix(".py") for name in sources}
    for name, source in sources.items():
        nodes = list(ast.walk(ast.parse(source)))
        modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        modules += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
        foreign = {module.partition(".")[0] for module in modules} - own - sys.stdlib_module_names
        assert not foreign, f"{name} imports {foreign}"


def test_it_has_the_bytecode_of_the_hosts_python_and_runs_by_it(tmp_path: Path) -> None:
    program = tmp_path / "bulkhead"
    program.write_bytes(archive())
    command = InstalledProgram().command().replace(PROGRAM, str(program))

    def installed() -> str:
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
        return InstalledProgram().process(done.stdout.splitlines())

    assert installed() == "", "a program without bytecode is taken for an installed one"
    add = [sys.executable, TOP / "files" / "add-bytecode.py", program, "/usr/local/bin/bulkhead"]
    subprocess.run(add, check=True)
    assert installed() == digest(archive())
    assert InstalledProgram().process([f"{digest(archive())} False"]) == "", "its bytecode is of another Python"
    assert run(rewritten(program, lambda name, _: name.endswith(".py")), "--version").returncode == 0, (
        "it is compiled anew"
    )
    other = rewritten(program, lambda _, content: content.startswith(importlib.util.MAGIC_NUMBER))
    assert run(other, "--version").returncode == 0, "the bytecode of another Python keeps it from running"


def test_program_is_in_place_when_it_has_arrived_whole(tmp_path: Path) -> None:
    program, configured = tmp_path / "bulkhead", tmp_path / "bulkhead.json"

    def installed(whole: bool = True) -> subprocess.CompletedProcess[str]:
        for command in performed(task.program, OperationHost(), content=archive(), configuration="{}\n"):
            line, stdin = str(command), command.connector_arguments["_stdin"]
            for path, here in (
                (PROGRAM_CONFIGURATION, configured),
                (PROGRAM_STATE, tmp_path / "state"),
                (PROGRAM, program),
            ):
                line = line.replace(path, str(here))
            done = shell(line, tmp_path, stdin=stdin if whole else stdin[:-77])
            if done.returncode:
                break
        return done

    program.write_text("the old program")
    refused = installed(whole=False)
    assert refused.returncode == 1
    assert refused.stderr.endswith("the program did not arrive whole; it was not installed. Run again.\n")
    assert program.read_text() == "the old program"
    assert not configured.exists()
    assert installed().returncode == 0
    assert (program.stat().st_mode & 0o777, configured.read_text()) == (0o755, "{}\n")
    assert run(program, "--version").stdout == f"bulkhead {__version__}\n"
    assert (tmp_path / "state").is_dir()


def test_program_and_configuration_that_are_up_to_date_are_left_alone_and_each_is_replaced_for_itself() -> None:
    def done(program: str, configured: list[str] | None) -> list[str]:
        host = OperationHost({InstalledProgram: program, FileContents: configured})
        return commands(task.program, host, content=archive(), configuration="{\n}\n")

    same = digest(archive())
    assert done(same, ["{", "}"]) == []
    (only,) = done(same, ["{}"])
    assert only.endswith("mv -fT /etc/bulkhead/bulkhead.json.new /etc/bulkhead/bulkhead.json && sync /etc/bulkhead")
    assert " /usr/local/bin/bulkhead" not in only
    _, both = done("another", ["{", "}"])
    # The program of one version never reads the configuration of another.
    assert both.index("sync /etc/bulkhead/bulkhead.json.new") < both.index(
        "mv -fT /usr/local/bin/bulkhead.new /usr/local/bin/bulkhead && mv -fT /etc/bulkhead/bulkhead.json.new"
    )
    assert len(done(same, None)) == 1


def rewritten(program: Path, spoilt: Callable[[str, bytes], bool]) -> Path:
    """The program with some of its entries spoilt."""
    copy = program.with_name("spoilt")
    with zipfile.ZipFile(program) as whole, zipfile.ZipFile(copy, "w") as packed:
        for name in whole.namelist():
            content = whole.read(name)
            packed.writestr(name, b"(\x00\x00\x00" + content[4:] if spoilt(name, content) else content)
    return copy


def test_command_line_without_a_command_is_refused(program: Path) -> None:
    done = run(program)
    assert done.returncode == 2
    assert "COMMAND" in done.stderr


def test_version_is_in_one_place(program: Path) -> None:
    project = (TOP / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in project
    assert 'version = { attr = "bulkhead.__version__" }' in project
    assert run(program, "--version").stdout == f"bulkhead {__version__}\n"


# -- standard streams that are closed, full, or read by nobody

NO_SPACE = "bulkhead: standard output cannot be written to: No space left on device\n"
CLOSED = "bulkhead: standard output cannot be written to: Bad file descriptor\n"


# Another threshold than the configuration's: these checks alert nobody.
@pytest.mark.parametrize("words", ["check 79", "check 79 --json", "check --no-alert --verbose", "check --help"])
@pytest.mark.parametrize(
    ("redirection", "message"),
    [
        (UNREAD, ""),
        (">&-", CLOSED),
        (">/dev/full", NO_SPACE),
        (">&- 2>&-", ""),
        ("<&- >&- 2>&-", ""),
        (">/dev/full 2>/dev/full", ""),
        ("2>&-", ""),
    ],
)
def test_check_whose_line_cannot_be_printed_is_unknown(
    provisioned: Path, words: str, redirection: str, message: str
) -> None:
    done = redirected(provisioned, words, redirection)
    assert (done.returncode, done.stderr) == (3, message)


def test_check_whose_line_can_be_printed_has_its_level(provisioned: Path, tmp_path: Path) -> None:
    for redirection in ("", "2>&-", "2>/dev/full", "<&-"):
        done = redirected(provisioned, "check 79", f">{tmp_path}/line {redirection}")
        assert (tmp_path / "line").read_text().startswith("DISK CRITICAL - ")
        assert (done.returncode, done.stderr) == (2, "")


@pytest.mark.parametrize("words", ["--version", "--help", "build --help", "status", "status --json"])
@pytest.mark.parametrize(
    ("redirection", "code", "message"), [(UNREAD, 141, ""), (">&-", 1, CLOSED), (">/dev/full", 1, NO_SPACE)]
)
def test_command_whose_output_cannot_be_written_ends_without_a_traceback(
    provisioned: Path, words: str, redirection: str, code: int, message: str
) -> None:
    done = redirected(provisioned, words, redirection)
    assert (done.returncode, done.stderr) == (code, message)


def test_service_keeps_the_exit_code_of_its_work_when_the_journal_loses_its_output(
    provisioned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVOCATION_ID", "8f3b7c")
    for redirection in (UNREAD, ">&-", ">/dev/full"):
        assert redirected(provisioned, "context .", redirection).returncode == 0
        assert redirected(provisioned, "check", redirection).returncode == 3


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "2>/dev/full", "<&-"])
@pytest.mark.parametrize(("words", "code"), [("stats", 2), ("", 2), ("alert --test", 1), ("gate none", 3)])
def test_failure_keeps_its_exit_code_whatever_the_streams(
    provisioned: Path, words: str, code: int, redirection: str
) -> None:
    done = redirected(provisioned, words, f">/dev/null {redirection}")
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_message_for_a_closed_standard_error_does_not_spoil_json(provisioned: Path, tmp_path: Path) -> None:
    (tmp_path / "bulkhead.json").unlink()
    done = redirected(provisioned, "check --json --no-alert", f">{tmp_path}/json 2>&-")
    assert done.returncode == 3
    assert json.loads((tmp_path / "json").read_text())["status"] == "UNKNOWN"
    assert redirected(provisioned, "status --json", f">{tmp_path}/json 2>&-").returncode == 1
    assert (tmp_path / "json").read_text() == ""


def test_check_of_cron_imports_no_more_than_it_uses(provisioned: Path) -> None:
    command = [sys.executable, "-IS", "-X", "importtime", provisioned, "check", "79"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.startswith("DISK ")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "bulkhead.watch.check" in imported
    assert not imported & {"argparse", "bulkhead.command_line", "bulkhead.watch.alert", "bulkhead.watch.metrics"}
    assert not imported & {
        "dataclasses",
        "fractions",
        "gettext",
        "inspect",
        "locale",
        "pathlib",
        "signal",
        "socket",
        "shutil",
        "subprocess",
        "tempfile",
        "textwrap",
        "threading",
        "typing",
    }


def loaded(tmp_path: Path, wanted: Settings) -> Config:
    path = tmp_path / "bulkhead.json"
    path.write_text(configuration(wanted, plan_of(wanted)))
    return Config.load(str(path))


def test_it_reads_the_configuration_that_the_deploy_writes(tmp_path: Path) -> None:
    wanted = settings(volume_mount="/srv/other", extra_volumes={"home-lv": {"mount": "/home", "size": "5G"}})
    config = loaded(tmp_path, wanted)
    assert config.volume_mount == "/srv/other"
    assert config.stores == STORES
    assert [(entry.source, entry.target) for entry in config.store_fstab] == [
        ("/srv/other/docker", "/var/lib/docker"),
        ("/srv/other/containerd", "/var/lib/containerd"),
    ]
    assert config.extra_fstab == tuple(extra_entry(wanted, volume) for volume in plan_of(wanted).extra_volumes)
    assert [entry.target for entry in config.extra_fstab] == ["/home"]
    assert set(config.ordering_drop_ins) == set(DROP_INS.values())
    assert config.relocation_patience == defaults()["relocation_patience"]
    assert config.watched_units == ("docker-prune.timer", "docker-guard.service")
    assert (config.guard_floor, config.guard_ballast) == (None, 256 * 2**20)
    assert config.docker_start_limit is None
    assert (config.guard_stop_pulls, config.guard_rescue) == (False, False)
    assert (config.check_interval, config.snapshot_max_hours) == (15, 24)


def test_program_knows_the_guard_by_the_settings(tmp_path: Path) -> None:
    wanted = settings(guard_floor="10G", guard_ballast="1G", guard_rescue=True, snapshot_max_hours=48)
    config = loaded(tmp_path, wanted)
    assert (config.guard_floor, config.guard_ballast) == (wanted.guard_floor, 2**30)
    assert (config.guard_rescue, config.snapshot_max_hours) == (True, 48)
    for without in (settings(guard_ballast=""), settings(guard=False)):
        assert loaded(tmp_path, without).guard_ballast == 0
    assert loaded(tmp_path, without).watched_units == ("docker-prune.timer",)


@pytest.mark.parametrize(
    ("floor", "why"),
    [({"text": "5%"}, "'guard_floor'"), ("5%", "must be a mapping, not str"), ("", "must be a mapping")],
)
def test_floor_that_somebody_wrote_by_hand_is_no_floor_of_zero(tmp_path: Path, floor: object, why: str) -> None:
    values = json.loads(configuration(settings(), plan_of(settings())))
    (tmp_path / "bulkhead.json").write_text(json.dumps({**values, "guard_floor": floor}))
    with pytest.raises(Problem, match=rf"it is not from this version of docker-bulkhead \(.*{why}"):
        Config.load(str(tmp_path / "bulkhead.json"))


def test_a_setting_keeps_its_name_on_its_way_to_the_host(tmp_path: Path) -> None:
    """What the deploy computes has names that no setting has, so that no name means two things."""
    config = loaded(tmp_path, settings())
    computed = {"stores", "store_fstab", "extra_fstab", "ordering_drop_ins", "vg_name", "reserve_bytes"}
    computed |= {"receiver_names", "watched_units", "disk_file_bytes", "volume_fstab", "closed_drop_ins"}
    assert computed.isdisjoint(Settings.model_fields)
    assert {*Config._fields} - computed <= {*Settings.model_fields}
    same = {*Config._fields} - computed - {"prune_keep", "guard_ballast"}  # a tuple; bytes
    assert {name: getattr(config, name) for name in same} == {name: getattr(settings(), name) for name in same}
    assert config.prune_keep == tuple(settings().prune_keep)


def test_configuration_has_a_newline_at_its_end_and_no_secret() -> None:
    wanted = settings(daemon_json={"http-proxy": "http://me:hunter2@proxy.example.com"})
    text = configuration(wanted, plan_of(wanted))
    assert text.endswith("}\n")
    assert "hunter2" not in text
    json.loads(text)
