"""Messages through Apprise: the real one where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bulkhead.watch import alert
from bulkhead.watch import apprise as watch_apprise
from bulkhead.watch.apprise import Delivery, blanked, result_of
from bulkhead.watch.results import CRITICAL, OK, WARNING

from ..configs import config
from .alert_host import AlertHost, use
from .apprise_server import CLIENT


def test_address_is_in_no_argument_and_no_variable_and_those_of_apprise_are_not_passed_on(
    host: AlertHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPRISE_URLS", "json://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    host.receivers(mail="mailto://a:hunter2-of-ours@b")
    host.apprise(
        f"tr '\\0' '\\n' </proc/$$/cmdline >{host.place}/process; tr '\\0' '\\n' </proc/$$/environ >>{host.place}/process"
    )
    assert watch_apprise.send("mail", "title", "body", "info") == Delivery(True)
    process = (host.place / "process").read_text()
    assert "--title=title" in process
    assert "hunter2-of-ours" not in process
    assert "APPRISE_URLS" not in process
    assert "HTTPS_PROXY=http://proxy:3128" in process


ADDRESS = "mailtos://us%65r:pä55%20w0rd@smtp.example.com:587?to=ops@example.com&bearer=tok3n"


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (
            "Invalid configuration found bulkhead=" + ADDRESS + " on line 1.",
            "Invalid configuration found bulkhead=*** on line 1.",
        ),
        ("Connection error to smtp.example.com. Reason: refused", "Connection error to ***. Reason: refused"),
        ("to Smtp.Example.COM port 587 as user", "to *** port *** as ***"),
        ("max retries with url: /p%C3%A455%20w0rd", "max retries with url: /***"),
        (r"auth b'p\xc3\xa455 w0rd' refused", "auth b'***' refused"),
        ('"ops@example.com" is unknown, tok3n too', '"***" is unknown, *** too'),
        ("us%65r and w0rd", "*** and ***"),
        ("[Errno 111] Connection refused", "[Errno 111] Connection refused"),
    ],
)
def test_every_part_of_an_address_is_blanked_however_it_is_written(output: str, shown: str) -> None:
    assert blanked(output, ADDRESS) == shown


def test_reason_is_in_warnings_and_exceptions_and_nothing_else_of_the_debug_lines_is_shown() -> None:
    output = (
        "2026-11-24 21:57:48,000 - DEBUG - Login ID: somebody\n"
        "2026-11-24 21:57:48,000 - WARNING - The persistent storage could not be fully initialized\n"
        "2026-11-24 21:57:48,000 - WARNING - Connection error while submitting email\n"
        "2026-11-24 21:57:48,000 - DEBUG - Socket Exception: [Errno 111] Connection refused\n"
    )
    expected = "Connection error while submitting email; Socket Exception: [Errno 111] Connection refused"
    assert result_of(1, output, "", "mailto://x") == Delivery(False, expected)


def test_of_a_crash_only_the_last_line_is_shown() -> None:
    assert result_of(1, "", 'Traceback\n  File "x"\nKeyError: secret', "json://secret") == Delivery(
        False, "KeyError: ***"
    )


def test_address_with_several_recipients_of_whom_one_got_it_is_not_tried_again() -> None:
    output = (
        '2026-11-24 21:57:48,000 - INFO - Sent Email notification to "a@x.org"\n'
        '2026-11-24 21:57:48,000 - WARNING - Sending email to "b@x.org" failed\n'
    )
    assert result_of(1, output, "", "mailto://x.org?to=a@x.org,b@x.org").reached


needs_apprise = pytest.mark.skipif(not shutil.which("apprise"), reason="the program apprise is not installed")


@pytest.fixture(scope="module")
def apprise_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Load the real Apprise for many messages, and return the stand-in for its program."""
    path = str(tmp_path_factory.mktemp("apprise") / "socket")
    with open(str(shutil.which("apprise"))) as file:
        python = file.readline().removeprefix("#!").strip()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        line = [python, Path(__file__).with_name("apprise_server.py")]
        with subprocess.Popen(line, stdin=server, env=watch_apprise._environment(os.environ)) as process:
            yield CLIENT.format(python=python, path=path)
            process.kill()


@pytest.fixture
def loaded(host: AlertHost, apprise_client: str) -> None:
    """Have a loaded Apprise send the messages of a host."""
    host.program("apprise", "")
    (host.place / "bin/apprise").write_text(apprise_client)


@pytest.fixture
def web() -> Iterator[tuple[int, list[Any]]]:
    """Run an HTTP server, and return its port and what it gets. It refuses paths with /refuse."""
    got: list[Any] = []

    class WebHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.path, content["title"], content["message"], content["type"]))
            self.send_response(403 if "refuse" in self.path else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), WebHandler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server.server_port, got
        server.shutdown()


@pytest.fixture
def mail_server() -> Iterator[tuple[int, list[str]]]:
    """Run an SMTP server, and return its port and the mails that it gets. It knows nobody at unknown.org."""
    got: list[str] = []

    class MailHandler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 test\r\n")
            for line in self.rfile:
                answer = b"250 ok"
                if line[:4].upper() == b"RCPT" and b"@unknown.org" in line:
                    answer = b"550 5.1.1 no such user " + line[8:].strip()
                if line[:4].upper() == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    got.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
                self.wfile.write(answer + b"\r\n")
                if line[:4].upper() == b"QUIT":
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), MailHandler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server.server_address[1], got
        server.shutdown()


@needs_apprise
@pytest.mark.usefixtures("loaded")
def test_apprise_takes_an_alert_and_its_recovery_to_a_web_server(host: AlertHost, web: tuple[int, list[Any]]) -> None:
    port, got = web
    host.receivers(hook=f"json://user:secret@127.0.0.1:{port}/path")
    hook = config(receiver_names=("hook",))
    alert.report_changes(hook, [use(CRITICAL, "/ 95 % used - „full“ @everyone")], time.time() - 1)
    alert.report_changes(hook, [use(OK, "/ 50 % used")], time.time())
    assert alert.deliver(hook) == 0
    name = os.uname().nodename
    assert [(title, text.split("\n")[0], kind) for _, title, text, kind in got] == [
        (f"CRITICAL: {name}", "CRITICAL: / 95 % used - „full“ @everyone", "failure"),
        (f"OK: {name}", "OK (was CRITICAL for 0 min): / 50 % used", "success"),
    ]


@needs_apprise
@pytest.mark.usefixtures("loaded")
def test_apprise_takes_an_alert_to_a_mail_server(host: AlertHost, mail_server: tuple[int, list[str]]) -> None:
    port, got = mail_server
    host.receivers(mail=f"mailto://127.0.0.1:{port}?from=bulkhead@example.org&to=ops@example.org")
    mail = config(receiver_names=("mail",))
    alert.report_changes(mail, [use(WARNING)], time.time())
    assert alert.deliver(mail) == 0
    (content,) = got
    assert f"Subject: WARNING: {os.uname().nodename}" in content
    assert "To: ops@example.org" in content


@needs_apprise
@pytest.mark.usefixtures("loaded")
def test_mail_of_which_one_recipient_is_unknown_reaches_the_other_once(
    host: AlertHost, mail_server: tuple[int, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    port, got = mail_server
    to = "ops@example.org,gone@unknown.org"
    host.receivers(mail=f"mailto://127.0.0.1:{port}?from=bulkhead@example.org&to={to}")
    mail = config(receiver_names=("mail",))
    alert.report_changes(mail, [use(WARNING)], time.time())
    for _ in range(2):
        assert alert.deliver(mail) == 0
    assert len(got) == 1
    output = capsys.readouterr().out
    assert output.startswith("mail: sent in part: ")
    assert "no such user" in output
    assert "gone" not in output


@needs_apprise
@pytest.mark.usefixtures("loaded")
def test_apprise_loads_only_the_receiver_that_is_meant_whatever_it_and_the_others_are_called(
    host: AlertHost, web: tuple[int, list[Any]]
) -> None:
    port, got = web
    names = ("all", "always", "a b", "-x", "ü;,", "mail")
    host.receivers(
        **{name: f"json://127.0.0.1:{port}/{number}" for number, name in enumerate(names)},
        broken="not-a-scheme://x y",
    )
    for number, name in enumerate(names):
        assert watch_apprise.send(name, "-title", "body", "info") == Delivery(True)
        assert [path for path, *_ in got] == [f"/{number}"]
        got.clear()


@needs_apprise
@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("json://user:s3cret@127.0.0.1:1/t0ken/", "Connection refused"),
        ("json://user:s3cret@127.0.0.1:{port}/refuse/t0ken/", "error=403"),
        ("json://user:s3cret@t0ken.invalid/", "Failed to"),
        ("mailto://user:s3cret@127.0.0.1:1?from=a@t0ken.org", "Connection refused"),
        ("slack://s3cret/t0ken", "Could not load URL ***"),
        ("nosuch://s3cret/t0ken", "Unparseable URL ***"),
        ("not-a-scheme://s3cret/t0ken", "Invalid Apprise TEXT configuration"),
    ],
)
def test_failure_of_apprise_has_its_reason_without_the_address(
    host: AlertHost, web: tuple[int, list[Any]], address: str, reason: str
) -> None:
    address = address.format(port=web[0])
    host.receivers(x=address)
    result = watch_apprise.send("x", "title", "body", "info")
    assert not result.reached
    assert reason in result.problem
    for secret in ("s3cret", "t0ken", "127.0.0.1", address):
        assert secret not in result.problem


@needs_apprise
def test_apprise_reads_and_writes_nothing_in_the_users_home(
    host: AlertHost, web: tuple[int, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, got = web
    home = host.place / "home"
    (home / ".config").mkdir(parents=True)
    for name in (".apprise", ".config/apprise"):
        (home / name).write_text(f"json://127.0.0.1:{port}/of-the-user\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("APPRISE_STORAGE_PATH", str(home / "storage"))
    before = sorted(home.rglob("*"))
    host.receivers(hook=f"json://127.0.0.1:{port}/ours", mail="mailto://127.0.0.1:1?from=a@b.org")
    alert.test(config(receiver_names=("hook", "mail")))
    assert [path for path, *_ in got] == ["/ours"]
    assert sorted(home.rglob("*")) == before


def test_answer_of_slack_that_an_old_apprise_takes_for_a_failure_is_none() -> None:
    output = (
        "2026-11-24 23:04:30,001 - WARNING - Failed to send to Slack: error=200.\n"
        "2026-11-24 23:04:30,002 - DEBUG - Response Details:\n{}\n"
    )
    assert result_of(1, output.format("b'ok'"), "", "slack://a/b/c") == Delivery(True)
    refused = result_of(1, output.format("b'no_team'"), "", "slack://a/b/c")
    assert refused == Delivery(False, "Failed to send to Slack: error=200")
