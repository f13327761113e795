"""Connect to the hosts of a pyinfra inventory, and give the tests their facts."""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import Config, Host, Inventory, State
from pyinfra.api.exceptions import ConnectError, PyinfraError
from pyinfra.context import ctx_state
from pyinfra_cli.inventory import make_inventory
from testinfra.host import Host as Connection

from fleet.output import read_every_byte
from settings.check import check_fleet
from settings.model import Settings
from tasks.support.paths import DOCKER_HOST, STORES
from tests.verify.backend import PyinfraBackend
from tests.verify.questions import LIMIT, TIMED_OUT, Output, outputs, questions, script
from tests.verify.summary import PropertyResult, sentence, summary

TOP = Path(__file__).parent.parent.parent
CONNECT_TIMEOUT = 20  # seconds
TIMEOUT = 20 * 60  # seconds for a test: a build on a slow host that is full takes minutes

HOSTS = pytest.StashKey[list[Host]]()
SETTINGS = pytest.StashKey[dict[str, Settings]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("docker-bulkhead")
    group.addoption(
        "--inventory", required=True, help="a pyinfra inventory: a file, host names with commas between them, or @local"
    )
    group.addoption("--limit", action="append", default=[], help="a host, a pattern or a group; may be repeated")
    group.addoption("--containers", action="store_true", help="also run what builds an image or starts a container")
    group.addoption("--disruptive", action="store_true", help="also run the test that stops Docker for a moment")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--inventory")
    try:
        config.stash[HOSTS] = hosts_of(name, config.getoption("--limit"), sudo=config.getoption("--sudo"))
        config.stash[SETTINGS] = check_fleet({host.name: host.data.dict() for host in config.stash[HOSTS]})
    except (LookupError, PyinfraError, SystemExit) as error:
        raise pytest.UsageError(f"{name}: {error}") from error


def hosts_of(name: str, limits: list[str], *, sudo: bool = False) -> list[Host]:
    """Return the chosen hosts of an inventory, ready to connect to, by pyinfra's rules.

    Args:
        name: an inventory as on pyinfra's command line.
        limits: names or patterns of hosts, and groups; empty for all hosts.
        sudo: run commands with sudo, unless the host's data say otherwise.

    Raises:
        LookupError: a limit matches no host, or the inventory has none.
    """
    with ctx_state.use(State()):
        inventory: Inventory = make_inventory(name, cwd=str(TOP))
    State(inventory, Config(CONNECT_TIMEOUT=CONNECT_TIMEOUT, SUDO=sudo))
    chosen: dict[str, Host] = {}
    for limit in limits or ["*"]:
        matching = [host for host in inventory if limit in host.groups or fnmatchcase(host.name, limit)]
        if not matching:
            raise LookupError(f"--limit {limit} matches no host" if limits else "the inventory has no host")
        chosen.update((host.name, host) for host in matching)
    return list(chosen.values())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        hosts = metafunc.config.stash[HOSTS]
        metafunc.parametrize("target", hosts, ids=[host.name for host in hosts], indirect=True, scope="session")


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(pytest.mark.timeout(TIMEOUT, method="signal"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if not is_chosen(item, config)]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    for item in items:
        assert isinstance(item, pytest.Function)
        cases = dict(item.callspec.params)
        host = cases.pop("target")
        item.user_properties += [("host", host.name), ("property", sentence(item.originalname, *cases.values()))]


def is_chosen(item: pytest.Item, config: pytest.Config) -> bool:
    """Return whether a test runs. A test that needs an image makes containers, and runs with --containers only."""
    if "image" in getattr(item, "fixturenames", ()) and not config.getoption("--containers"):
        return False
    return bool(config.getoption("--disruptive")) or not item.get_closest_marker("disruptive")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    results = []
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            known = dict(report.user_properties)
            crash = getattr(report.longrepr, "reprcrash", None)
            found = (
                (crash.message if crash else report.longreprtext)
                .removeprefix("AssertionError: ")
                .removeprefix("Failed: ")
            )
            results.append(PropertyResult(known["host"], known["property"], found, checked=outcome != "error"))
    terminalreporter.section("hosts")
    for line in summary([host.name for host in config.stash[HOSTS]], results):
        terminalreporter.write_line(line)
    if not config.getoption("--containers"):
        terminalreporter.write_line("Not checked: a build, and the log of a container. --containers checks them too")


class Target:
    """A host under examination: its settings, its answers, and commands on it."""

    def __init__(self, name: str, settings: Settings, connection: Connection) -> None:
        self.name = name
        self.settings = settings
        self.connection = connection
        self.unanswered = ""  # why there are no answers

    def run(self, command: str) -> str:
        """Return the output of a command, which must succeed. Its `docker` asks this host's daemon.

        Raises:
            AssertionError: the command failed; its output is in the message.
        """
        done = self.connection.run(f"export DOCKER_HOST={DOCKER_HOST}\n{command}")
        if done.failed:
            raise AssertionError(f"`{command}` failed: {done.stderr or done.stdout}")
        return done.stdout.strip()

    @cached_property
    def commands(self) -> dict[str, str]:
        """Return the commands of the questions, by name."""
        return questions(self.settings)

    @cached_property
    def answers(self) -> dict[str, Output]:
        """Return the answers to the questions, by name: one remote command."""
        mark = f"##VERIFY## {secrets.token_hex(8)}"  # which no file on the host has
        try:
            done = self.connection.run(script(self.commands, self.volume, mark))
        except AssertionError as error:
            self.unanswered = str(error)
            return {}  # once: a property that raises is asked again
        self.unanswered = done.stderr.strip()
        return outputs(done.stdout, mark)

    def answer(self, name: str) -> Output:
        """Return the answer to a question.

        Raises:
            AssertionError: there is none.
        """
        if name not in self.answers:
            raise AssertionError(f"`{self.commands[name]}` has given no answer. {self.unanswered}".strip())
        if self.answers[name].code == TIMED_OUT:
            raise AssertionError(f"`{self.commands[name]}` did not end within {LIMIT} s")
        return self.answers[name]

    def output(self, name: str) -> str:
        """Return the output of a question's command, which must succeed.

        Raises:
            AssertionError: the command failed; its output is in the message.
        """
        found = self.answer(name)
        if found.code:
            raise AssertionError(f"`{self.commands[name]}` failed: {found.stderr or found.stdout}")
        return found.stdout

    def fails(self, name: str) -> bool:
        """Return whether a question's command has failed."""
        return self.answer(name).code != 0

    @property
    def volume(self) -> str:
        return self.settings.volume_mount

    @property
    def mount_points(self) -> list[str]:
        return [self.volume, *STORES.values()]

    @cached_property
    def mounts(self) -> dict[str, dict[str, Any]]:
        """Return the mount table, by mount point."""
        table = json.loads(self.output("mounts"))
        return {row["target"]: row for row in table["filesystems"]}

    def mount(self, path: str) -> dict[str, Any]:
        """Return the line of the mount table for a mount point."""
        if path not in self.mounts:  # an assert would print the whole table
            pytest.fail(f"nothing is mounted on {path}", pytrace=False)
        return self.mounts[path]

    @cached_property
    def docker(self) -> dict[str, Any]:
        """Return the output of ``docker info``."""
        info: dict[str, Any] = json.loads(self.output("docker info"))
        return info

    @cached_property
    def status(self) -> dict[str, Any]:
        """Return the output of ``bulkhead status``: only for what the system has no word for."""
        status: dict[str, Any] = json.loads(self.output("status"))
        return status

    @property
    def device(self) -> str:
        return str(self.mount(self.volume)["source"])

    @property
    def name_in_fstab(self) -> str:
        """Return how fstab names the volume: a logical volume by its device, another filesystem that was adopted by its UUID
        or a name of its disk."""
        lines = [line.split() for line in self.output("fstab").splitlines()]
        listed = next((line[0] for line in lines if line[1:2] == [self.volume]), "")
        if not self.settings.adopt_filesystem or listed == self.device:
            return self.device
        return listed if listed.startswith("/dev/disk/by-id/") else f"UUID={self.output('UUID of the filesystem')}"

    @cached_property
    def logical_volume(self) -> dict[str, str]:
        """Return LVM's report on the volume and its group; skip the test if it is an adopted filesystem."""
        if self.settings.adopt_filesystem:
            pytest.skip("the volume is a filesystem that was adopted")
        assert self.device  # without a mount this says so
        report = self.output("logical volume")
        row: dict[str, str] = json.loads(report)["report"][0]["lv"][0]
        return row

    @cached_property
    def extra_devices(self) -> dict[str, str]:
        """Return the device of each extra volume, by its mount point, as LVM names it."""
        if not self.settings.extra_volumes:
            return {}  # the host may have no LVM
        devices = dict(line.split() for line in self.output("volumes of the group").splitlines())
        return {volume.mount: devices.get(name, "") for name, volume in self.settings.extra_volumes.items()}


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    host: Host = request.param
    unreachable = ""
    read_every_byte()
    try:
        host.connect(show_errors=False, raise_exceptions=True)
    except ConnectError as error:
        unreachable = str(error)
    if unreachable:
        # pytest remembers that a fixture of the session failed: the host's other tests fail at once.
        pytest.fail(f"cannot be reached: {unreachable}", pytrace=False)
    connection = Connection(PyinfraBackend(host))
    yield Target(host.name, request.config.stash[SETTINGS][host.name], connection)
    host.disconnect()


@pytest.fixture(scope="session")
def image(target: Target) -> Iterator[str]:
    """The name of an image made from the host's own shell: nothing is pulled. The name is new each time."""
    name = f"docker-bulkhead-verify:{uuid.uuid4().hex[:12]}"
    target.run(
        "set -e; tree=$(mktemp -d); trap 'rm -rf $tree' EXIT; mkdir $tree/bin; "
        "for program in sh yes head cat; do file=$(readlink -f $(command -v $program)); cp $file $tree/bin/$program; "
        "ldd $file | grep -o '/[^ )]*' | while read library; do "
        "mkdir -p $tree$(dirname $library); cp -L $library $tree$library; done; done; "
        f"tar -C $tree -c . | docker import --change 'LABEL docker-bulkhead=verify' - {name} >/dev/null"
    )
    yield name
    target.run(f"docker image rm {name}")
