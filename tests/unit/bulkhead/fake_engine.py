"""A fake engine: Docker's API over a real socket, answered by a function."""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from bulkhead.docker.engine import Engine

Query = dict[str, list[str]]
Answer = Callable[[str, str, Query], tuple[int, Any]]


class _ApiServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextlib.contextmanager
def fake_engine(path: Path, answer: Answer) -> Iterator[Engine]:
    """Run an engine at a socket.

    Args:
        answer: returns the status and the body for a method, a path and its query.
    """

    class ApiHandler(http.server.BaseHTTPRequestHandler):
        def respond(self) -> None:
            asked = urlsplit(self.path)
            status, values = answer(self.command, unquote(asked.path), parse_qs(asked.query))
            body = b"" if status == 204 else json.dumps(values).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = respond  # noqa: N815 - the names that http.server looks for

        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in http.server
            pass

    with _ApiServer(str(path), ApiHandler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Engine(str(path))
        server.shutdown()
