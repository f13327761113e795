"""A stream that drops what cannot be written."""

from __future__ import annotations

import errno
import os
import threading
import time

from bulkhead.streams import Stream


def test_stream_without_a_reader_drops_everything_and_keeps_the_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = Stream(writer, "w")
    assert (stream.write(b"one"), stream.write(b"two")) == (3, 3)
    assert stream.error
    assert stream.error.errno == errno.EPIPE


def test_disk_that_has_room_again_gets_what_comes_then() -> None:
    reader, writer = os.pipe()
    stream = Stream(os.open("/dev/full", os.O_WRONLY), "w")
    stream.write(b"lost")
    assert stream.error
    assert stream.error.errno == errno.ENOSPC
    os.dup2(writer, stream.fileno())
    stream.write(b"there")
    assert os.read(reader, 100) == b"there"
    assert stream.error.errno == errno.ENOSPC


def test_stream_that_somebody_made_non_blocking_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    full = 0
    try:
        while True:
            full += os.write(writer, b"x" * 4096)
    except BlockingIOError:
        pass
    stream = Stream(writer, "w")
    written: list[int] = []
    thread = threading.Thread(target=lambda: written.append(stream.write(b"end")), daemon=True)
    thread.start()
    time.sleep(0.05)
    assert not written
    content = b""
    while not content.endswith(b"end"):
        content += os.read(reader, 65536)
    thread.join(10)
    assert written == [3]
    assert stream.error is None
    assert content == b"x" * full + b"end"
