"""A host that dies in the middle of a run."""

from __future__ import annotations

import socket
import struct
import threading
import time
from pathlib import Path

import paramiko
import pytest
from pyinfra.api import Config, Host, Inventory, State
from pyinfra.connectors.ssh import SSHConnector

from fleet import lost_connection


class DyingServer(paramiko.ServerInterface):
    """An SSH server whose machine dies as soon as a command is to begin."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.key = paramiko.ECDSAKey.generate()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        self.connection, _ = self.listener.accept()
        transport = paramiko.Transport(self.connection)
        transport.add_server_key(self.key)
        transport.start_server(server=self)

    def get_allowed_auths(self, _username: str) -> str:
        return "password"

    def check_auth_password(self, _username: str, _password: str) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, _kind: str, _number: int) -> int:
        self.connection.shutdown(socket.SHUT_RDWR)
        return paramiko.OPEN_SUCCEEDED


class RunningServer(DyingServer):
    """An SSH server whose machine dies in the middle of a command; `false` ends first."""

    output = b"half of what it has to say\n"

    def check_channel_request(self, _kind: str, _number: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._run, args=(channel, b"false" in command), daemon=True).start()
        return True

    def _run(self, channel: paramiko.Channel, ends: bool) -> None:
        time.sleep(0.5)  # the answer that the command runs comes first
        channel.sendall(self.output)
        if ends:
            channel.send_exit_status(1)
            channel.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)


class SilentServer(DyingServer):
    """An SSH server that says nothing by itself, and notes each sign of life."""

    def __init__(self) -> None:
        super().__init__()
        self.noticed = threading.Event()

    def check_global_request(self, kind: str, _message: paramiko.Message) -> bool:
        if kind.startswith("keepalive"):
            self.noticed.set()
        return False


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("run_shell_command", "put_file", "get_file"):
        monkeypatch.setattr(SSHConnector, name, getattr(SSHConnector, name))


def connected(server: DyingServer, tmp_path: Path) -> Host:
    data = {
        "ssh_port": server.listener.getsockname()[1],
        "ssh_user": "me",
        "ssh_password": "x",
        "ssh_allow_agent": False,
        "ssh_look_for_keys": False,
        "ssh_known_hosts_file": f"{tmp_path}/known_hosts",
    }
    inventory = Inventory(([("127.0.0.1", data)], {}))
    State(inventory, Config())
    host = inventory.get_host("127.0.0.1")
    host.connect(raise_exceptions=True)
    return host


def test_connection_lost_while_a_command_begins_is_an_error_that_pyinfra_expects(tmp_path: Path) -> None:
    host = connected(DyingServer(), tmp_path)
    for _ in range(2):  # deploy.py runs once for each host
        lost_connection.keep_to_its_host(host)
    with pytest.raises(paramiko.SSHException, match="the connection was lost"):
        host.run_shell_command("true")


def test_connection_lost_in_the_middle_of_a_command_is_no_command_that_fails_without_a_word(tmp_path: Path) -> None:
    host = connected(RunningServer(), tmp_path)
    lost_connection.keep_to_its_host(host)
    done, output = host.run_shell_command("false")
    assert (done, output.stdout) == (False, "half of what it has to say")
    with pytest.raises(paramiko.SSHException, match="the connection was lost"):
        host.run_shell_command("apt-get install docker-ce")


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_connection_lost_between_two_commands_is_called_lost(tmp_path: Path, reset: bool) -> None:
    server = RunningServer()
    host = connected(server, tmp_path)
    lost_connection.keep_to_its_host(host)
    if reset:  # as by a machine that has booted anew (socket(7), SO_LINGER)
        server.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.connection.close()
    else:
        server.connection.shutdown(socket.SHUT_RDWR)
    host.connector.client.get_transport().join(30)  # type: ignore[attr-defined] # it is an SSHConnector
    with pytest.raises(paramiko.SSHException, match="the connection was lost"):
        host.run_shell_command("true")


def test_connection_on_which_nothing_happens_shows_signs_of_life(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lost_connection, "_KEEPALIVE", 0.1)
    server = SilentServer()
    lost_connection.keep_to_its_host(connected(server, tmp_path))
    assert server.noticed.wait(30)


def test_host_that_is_this_machine_has_no_connection_to_keep() -> None:
    inventory = Inventory((["@local"], {}))
    State(inventory, Config())
    lost_connection.keep_to_its_host(inventory.get_host("@local"))
