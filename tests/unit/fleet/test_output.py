"""What a host prints is read to its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyinfra.api import Config, Host, Inventory, State
from pyinfra.connectors import util

from fleet.output import read_every_byte

from .test_lost_connection import RunningServer, connected

LATIN_1 = b"docker\n\xdcbersicht\nwww\n"


class LatinServer(RunningServer):
    output = LATIN_1


def here() -> Host:
    inventory = Inventory((["@local"], {}))
    State(inventory, Config())
    return inventory.get_host("@local")


@pytest.mark.parametrize("connector", ["ssh", "local"])
def test_name_in_latin_1_ends_no_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, connector: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(util, "read_buffer", util.read_buffer)  # the test puts it back
    for _ in range(2):  # deploy.py runs once for each host
        read_every_byte()
    host = here() if connector == "local" else connected(LatinServer(), tmp_path)
    (tmp_path / "names").write_bytes(LATIN_1)
    _, output = host.run_shell_command(f"cat {tmp_path}/names; false")
    assert output.stdout_lines == ["docker", "\ufffdbersicht", "www"]
