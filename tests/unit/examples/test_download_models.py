"""The example's download of models, against a server of its own."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from .loading import EXAMPLE, load

downloads = load("scripts/download_models.py")
hub = load("base/hub.py")

M = 2**20
SIZES = {"voice/model.pth": 3 * M + 17, "voice/vocoder.pth": 5}
FREE = 10 * 2**30


class FlakyHub(hub.HubHandler):  # type: ignore[misc,name-defined] # the module is loaded by its path
    """The hub of the example. It can cut connections, and it keeps a list of what it is asked."""

    sizes = SIZES
    requests: ClassVar[list[tuple[str, str]]] = []  # path and range
    cut_after: ClassVar[list[int]] = []  # bytes, for one request each
    status = 0  # 0: as it should be

    def do_GET(self) -> None:  # noqa: N802 # the server's
        self.requests.append((self.path.lstrip("/"), self.headers.get("Range", "")))
        if self.status:
            self.send_error(self.status)
        elif self.cut_after:
            length = self.cut_after.pop(0)
            whole = self.wfile
            self.wfile = _Cut(whole, length)
            try:
                super().do_GET()
            except BrokenPipeError:
                self.connection.shutdown(socket.SHUT_RDWR)
            finally:
                self.wfile = whole
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None: ...


class _Cut:
    """A stream that breaks after so many bytes of the content."""

    def __init__(self, stream: Any, left: int) -> None:
        self.stream, self.left, self.has_headers = stream, left, False

    def write(self, content: bytes) -> None:
        if not self.has_headers:
            self.has_headers = True
            self.stream.write(content)
            return
        self.stream.write(content[: self.left])
        if len(content) >= self.left:
            self.stream.flush()
            raise BrokenPipeError
        self.left -= len(content)

    def flush(self) -> None:
        self.stream.flush()


class Download:
    """What a test downloads: from where, and whereto."""

    def __init__(self, place: Path, address: str) -> None:
        self.directory, self.address, self.file = place / "models", address, place / "models.json"
        self.list({path: hashlib.sha256(bytes(size)).hexdigest() for path, size in SIZES.items()})

    def list(self, digests: dict[str, str]) -> None:
        models = [{"path": path, "bytes": SIZES[path], "sha256": digest} for path, digest in digests.items()]
        self.file.write_text(json.dumps({"models": models}))

    @property
    def words(self) -> list[str]:
        return ["--list", str(self.file), "--directory", str(self.directory), "--url", self.address]

    def run(self, *words: str) -> int:
        code: int = downloads.main([*self.words, "--keep-free", "0", *words])
        return code

    def models(self) -> dict[str, int]:
        """Return the models that are there under their names, with their sizes."""
        return {
            str(path.relative_to(self.directory)): path.stat().st_size for path in sorted(self.directory.rglob("*.pth"))
        }

    def parts(self) -> list[int]:
        """Return the sizes of what has come of other models."""
        return [path.stat().st_size for path in self.directory.rglob("*.part")]


@pytest.fixture
def server() -> Iterator[str]:
    FlakyHub.requests, FlakyHub.cut_after, FlakyHub.status = [], [], 0
    with ThreadingHTTPServer(("127.0.0.1", 0), FlakyHub) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def download(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Download:
    monkeypatch.setattr(downloads, "PAUSE", 0)
    monkeypatch.setenv("no_proxy", "*")
    return Download(tmp_path, server)


def test_models_come_once_and_the_second_start_asks_for_nothing(
    download: Download, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download.run() == 0
    assert download.models() == SIZES
    assert download.parts() == []
    assert "voice/model.pth: 3.0 MiB, verified" in capsys.readouterr().out
    FlakyHub.requests.clear()
    assert download.run() == 0
    assert download.run("--url", "") == 0
    assert FlakyHub.requests == []


def test_cut_download_goes_on_where_it_was_cut(download: Download) -> None:
    FlakyHub.cut_after = [M, 2 * M]
    assert download.run() == 0
    assert download.models() == SIZES
    ranges = [asked for path, asked in FlakyHub.requests if path == "voice/model.pth"]
    assert ranges == ["", f"bytes={M}-", f"bytes={3 * M}-"]


def test_next_start_goes_on_where_the_last_one_ended(download: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    FlakyHub.cut_after = [M, 0]
    assert download.run() == 3
    assert download.models() == {}
    assert download.parts() == [M]
    assert download.run() == 0
    assert FlakyHub.requests[2] == ("voice/model.pth", f"bytes={M}-")
    assert download.models() == SIZES


def test_server_that_cannot_resume_sends_everything_again(download: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    original = downloads._request
    monkeypatch.setattr(downloads, "_request", lambda url, _: original(url, 0))
    FlakyHub.cut_after = [M]
    assert download.run() == 0
    assert download.models() == SIZES


def test_wrong_content_is_removed_and_named(download: Download, capsys: pytest.CaptureFixture[str]) -> None:
    digest = hashlib.sha256(bytes(SIZES["voice/model.pth"])).hexdigest()
    download.list({"voice/model.pth": 64 * "0"})
    assert download.run() == 1
    assert f"has {SIZES['voice/model.pth']} bytes and the SHA-256 {digest}, not" in capsys.readouterr().err
    assert (download.models(), download.parts()) == ({}, [])


def test_content_of_another_length_is_refused_before_it_is_written(
    download: Download, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FlakyHub, "sizes", {"voice/model.pth": 7, "voice/vocoder.pth": 5})
    assert download.run() == 1
    assert f"it has 7 bytes, not {SIZES['voice/model.pth']}" in capsys.readouterr().err
    assert (download.models(), download.parts()) == ({}, [])


def test_content_that_has_ended_is_not_resumed_for_ever(download: Download, capsys: pytest.CaptureFixture[str]) -> None:
    part = (
        download.directory / f"voice/model.pth.{hashlib.sha256(bytes(SIZES['voice/model.pth'])).hexdigest()[:12]}.part"
    )
    part.parent.mkdir(parents=True)
    part.write_bytes(b"all that the server has")
    FlakyHub.status = 416
    assert download.run() == 1
    assert "it has 23 bytes, not" in capsys.readouterr().err
    assert (download.models(), download.parts()) == ({}, [])


def test_another_version_of_a_model_takes_the_place_of_the_old_one(download: Download) -> None:
    assert download.run() == 0
    proof = download.directory / "voice/model.pth.sha256"
    proof.write_text("of another version\n")
    (download.directory / "voice/model.pth").write_bytes(b"x" * SIZES["voice/model.pth"])
    assert download.run() == 0
    assert (download.directory / "voice/model.pth").read_bytes() == bytes(SIZES["voice/model.pth"])


@pytest.mark.parametrize(
    ("size", "free", "words", "message"),
    [
        (40 * 2**30, 2 * 2**30, [], "The models need 3.0 MiB, and 2.0 GiB must stay free: 3.0 MiB are missing."),
        (100 * 2**30, 5 * 2**30, [], "and 5.0 GiB must stay free"),
        (4000 * 2**30, 50 * 2**30, [], "and 50.0 GiB must stay free"),
        (4 * 2**30, 2**30, [], "and 1.0 GiB must stay free"),
        (40 * 2**30, 2 * M, ["--keep-free", "0"], "The models need 3.0 MiB, and 0.0 MiB must stay free: 1.0 MiB are"),
    ],
)
def test_nothing_is_downloaded_for_which_there_is_no_space(
    download: Download,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    size: int,
    free: int,
    words: list[str],
    message: str,
) -> None:
    counts = os.statvfs_result((1, 1, size, free, free, 1, 1, 1, 0, 255))
    monkeypatch.setattr(downloads.os, "statvfs", lambda _: counts)
    assert downloads.main([*download.words, *words]) == 4
    assert message in capsys.readouterr().err
    assert FlakyHub.requests == []


def test_what_has_come_needs_no_space_again(download: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    FlakyHub.cut_after = [3 * M, 0]
    assert download.run() == 3
    counts = os.statvfs_result((1, 1, FREE, M, M, 1, 1, 1, 0, 255))
    monkeypatch.setattr(downloads.os, "statvfs", lambda _: counts)
    assert download.run() == 0


def test_second_one_waits_and_downloads_nothing_that_the_first_has_brought(download: Download) -> None:
    download.directory.mkdir()
    environment = {**os.environ, "no_proxy": "*"}
    with (download.directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = [sys.executable, str(EXAMPLE / "scripts/download_models.py"), *download.words, "--keep-free", "0"]
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment) as second:
            assert second.stdout
            assert second.stdout.readline() == "models: another one is downloading: waiting for it\n"
            assert FlakyHub.requests == []
            for model in downloads.models_of(download.file):
                downloads.download(model, download.directory, f"{download.address}{model.path}")
            FlakyHub.requests.clear()
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert second.stdout.read() == "models: every model is there\n"
    assert second.returncode == 0
    assert FlakyHub.requests == []


def test_without_a_network_it_ends_and_says_so(download: Download, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        download.address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert download.run() == 3
    printed = capsys.readouterr()
    assert "voice/model.pth cannot be downloaded: [Errno 111] Connection refused" in printed.err
    assert printed.out.count("trying again") == downloads.ATTEMPTS - 1
    assert download.run("--url", "") == 3
    assert "MODELS_URL does not say where they are" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (503, 5), (429, 5)])
def test_answer_that_will_not_change_is_not_asked_for_again(
    download: Download, capsys: pytest.CaptureFixture[str], status: int, requests: int
) -> None:
    FlakyHub.status = status
    assert download.run() == 3
    assert f"the server answers {status}" in capsys.readouterr().err
    assert len(FlakyHub.requests) == requests


@pytest.mark.parametrize("address", ["file:///etc", "ftp://host/models", "models"])
def test_address_of_another_kind_is_refused(
    download: Download, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    assert download.run("--url", address) == 2
    assert f"must begin with https:// or http://, not '{address}'" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{}", '{"models": [{"path": "a"}]}'])
def test_list_that_cannot_be_used_is_named(
    download: Download, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    download.file.write_text(content)
    assert download.run() == 2
    assert f"{download.file} cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["../model.pth", "/etc/model.pth", "a/../../model.pth", ""])
def test_model_never_leaves_the_directory(download: Download, capsys: pytest.CaptureFixture[str], path: str) -> None:
    download.file.write_text(json.dumps({"models": [{"path": path, "bytes": 5, "sha256": 64 * "0"}]}))
    assert download.run() == 2
    assert "is not a path below the directory" in capsys.readouterr().err


def test_directory_that_cannot_be_written_is_named(download: Download, capsys: pytest.CaptureFixture[str]) -> None:
    download.directory.write_text("a file")
    assert download.run() == 4
    assert "models cannot be written: " in capsys.readouterr().err
