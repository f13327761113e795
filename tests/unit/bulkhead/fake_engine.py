"""A fake engine: Docker's API over a real socket, answered by a function."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from bulkhead.docker.engine import Engine

Query = dict[str, list[str]]
Answer = Callable[[str, str, Query], tuple[int, Any]]


@contextlib.contextmanager
def fake_engine(path: Path, answer: Answer) -> Iterator[Engine]:
    """Run an engine at a socket. It does without http.server, which takes longer for a request than the program.

    Args:
        answer: returns the status and the body for a method, a path and its query.
    """

    def respond(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as request:
            method, target, _ = next(request).decode().split(" ")
            while next(request) != b"\r\n":
                pass  # the headers; no request has a body
            asked = urlsplit(target)
            status, values = answer(method, unquote(asked.path), parse_qs(asked.query))
            body = b"" if status == 204 else json.dumps(values).encode()
            with contextlib.suppress(BrokenPipeError):  # a client that does not wait
                connection.sendall(b"HTTP/1.1 %d \r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

    def serve() -> None:
        with contextlib.suppress(OSError):  # the end
            while True:
                threading.Thread(target=respond, args=listener.accept()[:1], daemon=True).start()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = threading.Thread(target=serve, daemon=True)
        server.start()
        yield Engine(str(path))
        listener.shutdown(socket.SHUT_RDWR)
        server.join()
