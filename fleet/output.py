"""Read whatever a host prints."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from paramiko import BufferedFile
from pyinfra.connectors import util


def read_every_byte() -> None:
    """Have pyinfra read output that is no UTF-8 to its end: what is none becomes U+FFFD, which JSON may have too.

    pyinfra 3.10 stops at such a byte, in the name of a file say, and takes what came before it for all of the output
    (pyinfra.connectors.util, read_output_buffers).
    """
    if not hasattr(util.read_buffer, "__wrapped__"):  # pyinfra runs deploy.py once for each host
        util.read_buffer = _decoding(util.read_buffer)


def _decoding(read_buffer: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(read_buffer)
    def decoding(name: str, lines: Iterable[str | bytes], *words: Any, **options: Any) -> None:
        if isinstance(lines, BufferedFile):  # otherwise paramiko decodes them, and raises an error
            lines._flags |= BufferedFile.FLAG_BINARY  # type: ignore[attr-defined]
        read_buffer(name, map(_text, lines), *words, **options)

    return decoding


def _text(line: str | bytes) -> str:
    return line if isinstance(line, str) else line.decode(errors="replace")
