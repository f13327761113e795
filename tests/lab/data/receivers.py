"""Receive alerts inside a machine: an HTTPS server stands in for Slack and Discord, and the SMTP server is real.

Each message becomes a file in /run/received/NAME/. A receiver refuses messages while /run/received/NAME.down exists.
"""

from __future__ import annotations

import itertools
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller  # type: ignore[import-not-found]

RECEIVED = Path("/run/received")
NAMES = {"hooks.slack.com": "slack", "discord.com": "discord"}
numbers = itertools.count(1)


def is_down(name: str) -> bool:
    return (RECEIVED / f"{name}.down").exists()


def keep(name: str, content: bytes) -> None:
    (RECEIVED / name / f"{next(numbers):03}").write_bytes(content)


class WebReceiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        name = NAMES[self.headers["Host"].partition(":")[0]]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if is_down(name):
            self.send_error(503)
            return
        keep(name, body)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Log nothing: the paths are secrets, as they are at Slack."""


class MailReceiver:
    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if is_down("mail"):
            return "451 try again later"
        keep("mail", envelope.content)
        return "250 kept"


for name in ("slack", "discord", "mail"):
    (RECEIVED / name).mkdir(parents=True, exist_ok=True)
Controller(MailReceiver(), hostname="127.0.0.1", port=25).start()
server = ThreadingHTTPServer(("127.0.0.1", 443), WebReceiver)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever).start()
