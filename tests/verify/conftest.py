"""The hosts of a pyinfra inventory as testinfra sees them: one connection a host, a few commands for all properties."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import testinfra
from pyinfra.api import Host, Inventory, State
from pyinfra.context import ctx_state
from pyinfra_cli.inventory import make_inventory_from_files
from testinfra.host import Host as Connection

from settings import Settings, check_fleet
from tasks.paths import STORES

TOP = Path(__file__).parent.parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("docker-bulkhead")
    group.addoption("--inventory", required=True, help="a pyinfra inventory")
    group.addoption("--limit", action="append", default=[], help="a host or a group of it, again for more")
    group.addoption("--disruptive", action="store_true", help="also what stops Docker for a moment")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "disruptive: stops Docker for a moment; only with --disruptive")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--disruptive"):
        skipped = [item for item in items if item.get_closest_marker("disruptive")]
        items[:] = [item for item in items if item not in skipped]
        config.hook.pytest_deselected(items=skipped)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """A line for each host: how many properties hold, and which do not."""
    results: dict[str, dict[str, list[str]]] = {host.name: {"passed": [], "failed": []} for host in _hosts(config)}
    for outcome, reports in terminalreporter.stats.items():
        for report in reports if outcome in ("passed", "failed", "error") else ():
            sentence, _, case = report.nodeid.split("::")[-1].removesuffix("]").partition("[")
            host = next((name for name in results if case == name or case.startswith(f"{name}-")), None)
            # A test counts once: for its call, or for the set-up that kept it from one.
            if host and (report.when == "call" or outcome == "error"):
                detail = case.removeprefix(host).strip("-")
                words = sentence.removeprefix("test_").replace("_", " ") + (f" ({detail})" if detail else "")
                results[host]["passed" if outcome == "passed" else "failed"].append(words)
    terminalreporter.section("hosts")
    width = max(map(len, results))
    for name, found in results.items():
        terminalreporter.write_line(
            f"{name:<{width}}  {len(found['passed'])} properties hold, {len(found['failed'])} do not"
        )
        for words in found["failed"]:
            terminalreporter.write_line(f"{'':<{width}}  does NOT hold: {words}")


def _hosts(config: pytest.Config) -> list[Host]:
    with ctx_state.use(State()):
        inventory: Inventory = make_inventory_from_files(config.getoption("--inventory"), cwd=str(TOP))
    limits = config.getoption("--limit")
    hosts = [
        host
        for host in inventory
        if not limits or any(Path(host.name).match(limit) or limit in host.groups for limit in limits)
    ]
    if not hosts:
        raise pytest.UsageError(f"no host of {config.getoption('--inventory')} matches {', '.join(limits)}")
    return hosts


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        hosts = _hosts(metafunc.config)
        metafunc.parametrize("target", hosts, ids=[host.name for host in hosts], indirect=True, scope="session")


class Target:
    """A host: its settings, and what commands on it say."""

    def __init__(self, name: str, settings: Settings, connection: Connection) -> None:
        self.name = name
        self.settings = settings
        self.connection = connection

    def run(self, command: str) -> str:
        """What a command prints; it must succeed.

        Raises:
            AssertionError: it failed; what it said is in the message.
        """
        done = self.connection.run(command)
        assert done.rc == 0, f"`{command}` failed on {self.name} with {done.rc}: {done.stderr}{done.stdout}"
        return str(done.stdout).strip()

    def rc(self, command: str) -> int:
        return int(self.connection.run(command).rc)

    @property
    def volume(self) -> str:
        return self.settings.volume_mount

    @property
    def mount_points(self) -> list[str]:
        return [self.volume, *STORES.values()]

    @cached_property
    def mounts(self) -> dict[str, dict[str, Any]]:
        """The mount table, by target."""
        table = json.loads(self.run("findmnt --kernel --list --json -o TARGET,SOURCE,FSTYPE,OPTIONS,PROPAGATION"))
        return {row["target"]: row for row in table["filesystems"]}

    @cached_property
    def docker(self) -> dict[str, Any]:
        """``docker info``."""
        info: dict[str, Any] = json.loads(self.run("docker info --format '{{json .}}'"))
        return info

    @cached_property
    def device(self) -> str:
        return str(self.mounts[self.volume]["source"])

    @cached_property
    def logical_volume(self) -> dict[str, str]:
        report = self.run(
            f"lvs --reportformat json --units b --nosuffix -o lv_name,vg_name,lv_size,segtype,lv_tags {self.device}"
        )
        row: dict[str, str] = json.loads(report)["report"][0]["lv"][0]
        return row


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    host: Host = request.param
    settings = check_fleet({host.name: host.data.dict()})[host.name]
    with tempfile.TemporaryDirectory(prefix="bulkhead-") as directory:
        # The master connection ends by itself a minute after the last command (ControlPersist).
        yield Target(host.name, settings, _connect(host, Path(directory)))


def _connect(host: Host, directory: Path) -> Connection:
    """testinfra's connection for pyinfra's host data."""
    data = host.data
    if host.name == "@local":
        return testinfra.get_host("local://", sudo=bool(data.get("_sudo")))
    options = {
        # A connection for each command costs seconds on a slow host.
        "ControlMaster": "auto",
        "ControlPath": str(directory / "ssh"),
        "ControlPersist": "60",
        "StrictHostKeyChecking": data.get("ssh_strict_host_key_checking", "accept-new"),
        "UserKnownHostsFile": data.get("ssh_known_hosts_file"),
        "ConnectTimeout": 15,
        "LogLevel": "ERROR",
    }
    extra = " ".join(f"-o {shlex.quote(f'{name}={value}')}" for name, value in options.items() if value is not None)
    user = f"{data.get('ssh_user')}@" if data.get("ssh_user") else ""
    port = f":{data.get('ssh_port')}" if data.get("ssh_port") else ""
    return testinfra.get_host(
        f"ssh://{user}{data.get('ssh_hostname', host.name)}{port}",
        ssh_identity_file=data.get("ssh_key"),
        ssh_extra_args=extra,
        sudo=bool(data.get("_sudo")),
    )
