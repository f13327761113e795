"""Download the models that models.json lists into a directory that stays: a volume. Then the service can start.

It goes on where a cut left it, verifies every file before it gets its name, downloads nothing for which there is no space, and lets
one container download at a time. What is there is not downloaded again, so a start without a network works from the second time on.

Exit codes: 0: every model is there; 1: what the server sent is not what models.json says; 2: wrong arguments, or an address or a
models.json that cannot be used; 3: the server cannot be reached, or does not send a file; 4: there is not enough space, or the
directory cannot be written.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

WRONG_CONTENT, UNUSABLE, UNREACHABLE, NO_SPACE = 1, 2, 3, 4  # exit codes
GIB = 2**30
CHUNK = 2**20  # bytes that are read at once
PATIENCE = 30  # seconds without an answer or a byte
ATTEMPTS = 5  # in a row that bring nothing
PAUSE = 2  # seconds before the second attempt; twice as many before each further one
REPORT = 10  # seconds between two lines about progress


class NotDownloaded(Exception):
    """The models are not there. The message says why, and what to do."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Model(NamedTuple):
    """A file, as models.json lists it."""

    path: str  # below the directory, and below the address
    bytes: int
    sha256: str

    def file(self, directory: Path) -> Path:
        return directory / self.path

    def proof(self, directory: Path) -> Path:
        """Return the file that says which content was verified."""
        return directory / f"{self.path}.sha256"

    def part(self, directory: Path) -> Path:
        """Return the file for what has come so far. Another version of the model has another one."""
        return directory / f"{self.path}.{self.sha256[:12]}.part"

    def is_there(self, directory: Path) -> bool:
        try:
            return (
                self.file(directory).stat().st_size == self.bytes
                and self.proof(directory).read_text() == f"{self.sha256}\n"
            )
        except FileNotFoundError:
            return False

    def has_come(self, directory: Path) -> int:
        """Return the bytes that have come so far."""
        try:
            return min(self.part(directory).stat().st_size, self.bytes)
        except FileNotFoundError:
            return 0


def models_of(path: Path) -> list[Model]:
    """Read models.json.

    Raises:
        NotDownloaded: it cannot be used.
    """
    try:
        listed = json.loads(path.read_text())["models"]
        models = [Model(str(each["path"]), int(each["bytes"]), str(each["sha256"])) for each in listed]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotDownloaded(UNUSABLE, f"{path} cannot be used: {error!r}") from None
    for model in models:
        place = PurePosixPath(model.path)
        if place.is_absolute() or ".." in place.parts or not place.parts:
            raise NotDownloaded(UNUSABLE, f"{path}: {model.path!r} is not a path below the directory")
        if not re.fullmatch("[0-9a-f]{64}", model.sha256) or model.bytes <= 0:
            raise NotDownloaded(UNUSABLE, f"{path}: {model.path} needs its size in bytes, and its SHA-256")
    return models


def download_all(models: Sequence[Model], directory: Path, address: str, keep_free: int | None = None) -> None:
    """Bring every model that is not there.

    Args:
        address: the URL that the paths of the models are below.
        keep_free: bytes that stay free beside the models; None: what docker-bulkhead's guard keeps free.

    Raises:
        NotDownloaded: one cannot be had.
        OSError: the directory cannot be written.
    """
    if all(model.is_there(directory) for model in models):
        say("every model is there")
        return
    if not address:
        raise NotDownloaded(UNREACHABLE, "models are missing, and MODELS_URL does not say where they are")
    if not address.startswith(("http://", "https://")):
        raise NotDownloaded(UNUSABLE, f"MODELS_URL must begin with https:// or http://, not {address!r}")
    directory.mkdir(parents=True, exist_ok=True)
    with alone(directory):
        missing = [model for model in models if not model.is_there(directory)]  # another one may have brought them
        check_space(missing, directory, keep_free)
        for model in missing:
            download(model, directory, f"{address.rstrip('/')}/{model.path}")
    say("every model is there")


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Wait until no other one downloads into the directory. The kernel gives the lock back, however a holder ends."""
    with (directory / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another one is downloading: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_space(missing: Sequence[Model], directory: Path, keep_free: int | None) -> None:
    """Check that the models fit before the first byte is written.

    Raises:
        NotDownloaded: they do not.
    """
    counts = os.statvfs(directory)
    size, free = counts.f_blocks * counts.f_frsize, counts.f_bavail * counts.f_frsize
    keep = min(max(size // 20, 2 * GIB), 50 * GIB, size // 4) if keep_free is None else keep_free
    need = sum(model.bytes - model.has_come(directory) for model in missing)
    if need + keep > free:
        raise NotDownloaded(
            NO_SPACE,
            f"{directory} has {human(free)} free. The models need {human(need)}, and {human(keep)} must stay free: "
            f"{human(need + keep - free)} are missing. Nothing was downloaded. Make room on Docker's disk",
        )


def download(model: Model, directory: Path, url: str) -> None:
    """Bring one model.

    Raises:
        NotDownloaded: it cannot be had.
        OSError: the directory cannot be written.
    """
    file, part = model.file(directory), model.part(directory)
    file.parent.mkdir(parents=True, exist_ok=True)
    attempts, pause = 0, PAUSE
    while (come := model.has_come(directory)) < model.bytes:
        try:
            with urllib.request.urlopen(_request(url, come), timeout=PATIENCE) as answer:
                start = come if answer.status == 206 else 0
                if answer.length is not None and start + answer.length != model.bytes:
                    raise _wrong(model, url, start + answer.length)  # such as a page that asks for a password
                _append(answer, part, model, start)
            problem = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code == 416:  # there is nothing behind what has come
                part.unlink()
                raise _wrong(model, url, come) from None
            if error.code < 500 and error.code not in (408, 429):
                raise NotDownloaded(UNREACHABLE, f"{url}: the server answers {error.code} {error.reason}") from None
            problem = f"the server answers {error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            problem = str(getattr(error, "reason", "") or error or repr(error))
        if model.has_come(directory) > come:
            attempts, pause = 0, PAUSE
        elif (attempts := attempts + 1) == ATTEMPTS:
            raise NotDownloaded(
                UNREACHABLE,
                f"{url} cannot be downloaded: {problem}. {human(come)} of {human(model.bytes)} are kept: the next start goes on "
                "from there",
            )
        if model.has_come(directory) < model.bytes:
            say(f"{model.path}: {problem}; trying again in {pause} s")
            time.sleep(pause)
            pause *= 2
    _finish(model, directory, url)


def _wrong(model: Model, url: str, size: int) -> NotDownloaded:
    return NotDownloaded(WRONG_CONTENT, f"{url} is not what models.json says: it has {size} bytes, not {model.bytes}")


def _request(url: str, come: int) -> urllib.request.Request:
    return urllib.request.Request(url, headers={"Range": f"bytes={come}-"} if come else {})


def _append(answer: IO[bytes], part: Path, model: Model, come: int) -> None:
    """Write what the server sends, behind the bytes that have come. A server that cannot resume sends everything again."""
    reported = time.monotonic()
    with part.open("r+b" if come else "wb") as file:
        file.seek(come)
        while come < model.bytes and (chunk := answer.read(CHUNK)):
            file.write(chunk)
            come += len(chunk)
            if time.monotonic() - reported >= REPORT:
                say(f"{model.path}: {100 * come // model.bytes} % of {human(model.bytes)}")
                reported = time.monotonic()


def _finish(model: Model, directory: Path, url: str) -> None:
    """Verify what has come, and give it its name.

    Raises:
        NotDownloaded: it is something else.
    """
    part, digest = model.part(directory), hashlib.sha256()
    with part.open("r+b") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
        size = file.tell()
        os.fsync(file.fileno())
    if size != model.bytes or digest.hexdigest() != model.sha256:
        part.unlink()  # it would be resumed for ever
        raise NotDownloaded(
            WRONG_CONTENT,
            f"{url} is not what models.json says: it has {size} bytes and the SHA-256 {digest.hexdigest()}, not {model.bytes} and "
            f"{model.sha256}. It was removed",
        )
    part.rename(model.file(directory))
    model.proof(directory).write_text(f"{model.sha256}\n")
    say(f"{model.path}: {human(model.bytes)}, verified")


def human(size: int) -> str:
    """
    >>> human(3 * 2**30), human(5 * 2**20)
    ('3.0 GiB', '5.0 MiB')
    """
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.1f} MiB"


def say(line: str) -> None:
    print(f"models: {line}", flush=True)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Download the models that models.json lists.")
    here = Path(__file__).parent.parent
    parser.add_argument("--list", type=Path, default=here / "models.json", metavar="FILE")
    parser.add_argument(
        "--directory", type=Path, default=Path(os.environ.get("TTS_HOME", here / "models")), metavar="DIRECTORY"
    )
    parser.add_argument("--url", default=os.environ.get("MODELS_URL", ""), help="default: MODELS_URL")
    parser.add_argument(
        "--keep-free",
        type=int,
        metavar="BYTES",
        help="what stays free beside the models (default: what the guard keeps free: 5 %% of the disk, at least 2 GiB and at most 50 GiB, never more than a quarter)",
    )
    options = parser.parse_args(words)
    try:
        download_all(models_of(options.list), options.directory, options.url, options.keep_free)
    except NotDownloaded as error:
        print(f"models: {error}", file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"models: {options.directory} cannot be written: {error}", file=sys.stderr)
        return NO_SPACE
    return 0


if __name__ == "__main__":
    sys.exit(main())
