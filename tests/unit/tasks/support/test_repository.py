"""A repository is put into apt as a whole, or not at all. With apt and gpg of this machine, and repositories made here."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tasks.support.packages import PackageStates
from tasks.support.repository import RepositoryEntry, RepositoryState, addition_script, repository

from ..operations import OperationHost, after_cuts, calls, commands, noted, performed, stand_in

# This module's repositories need Debian's own tools.
needs_apt = pytest.mark.skipif(
    not os.path.exists("/usr/lib/apt/apt-helper") or not shutil.which("gpg"), reason="there is no apt or no gpg"
)

# None of its hooks, and not its list of packages, which takes apt its time.
OF_THIS_MACHINE = 'Dir::Etc::Parts "/dev/null"; Dir::State::status "/dev/null";\n'


@dataclass
class Server:
    """Repositories by name: ``good``, ``unsigned``, ``changed`` (after it was signed), ``strange`` (signed by another key)."""

    top: Path
    url: str
    fingerprint: str
    environment: dict[str, str]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    top = Path(tempfile.mkdtemp(dir="/tmp"))  # gpg's socket must have a short name
    top.chmod(0o755)  # apt reads as a user of its own
    (top / "gnupg").mkdir(mode=0o700)
    (top / "tmp").mkdir(mode=0o755)
    web = top / "web"

    def gpg(*arguments: str) -> str:
        words = ["gpg", "--homedir", str(top / "gnupg"), "--batch", "--quiet", "--passphrase", "", *arguments]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def repository(name: str, signer: str) -> Path:
        directory = web / name
        directory.mkdir(parents=True)
        packages = b"Package: x\nVersion: 1\nArchitecture: all\nFilename: x.deb\nSize: 1\nSHA256: %s\n" % (b"0" * 64)
        (directory / "Packages").write_bytes(packages)
        listed = f"{hashlib.sha256(packages).hexdigest()} {len(packages)} Packages"
        (directory / "Release").write_text(
            f"Codename: stable\nDate: Thu, 01 Jan 2015 00:00:00 UTC\nSHA256:\n {listed}\n"
        )
        release = str(directory / "Release")
        gpg("--local-user", signer, "--clearsign", "--output", str(directory / "InRelease"), release)
        return directory

    for signer in ("us", "them"):
        gpg("--quick-generate-key", signer, "ed25519", "sign", "never")
    gpg("--quick-add-key", fingerprint := _fingerprint(gpg("--with-colons", "--list-keys", "us")), "cv25519", "encr")
    repository("good", "us")
    repository("strange", "them")
    (repository("unsigned", "us") / "InRelease").unlink()
    (repository("changed", "us") / "Packages").write_text("Package: bad\n")
    (web / "key").write_text(gpg("--armor", "--export", "us"))
    (web / "two-keys").write_text(gpg("--armor", "--export", "us", "them"))
    (web / "no-key").write_text("<html>log in</html>\n")
    subprocess.run(["gpgconf", "--homedir", top / "gnupg", "--kill", "all"], check=True)
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(web)))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    (top / "apt.conf").write_text('Acquire::http::Proxy::127.0.0.1 "DIRECT"; Acquire::Retries "0";\n' + OF_THIS_MACHINE)
    environment |= {"TMPDIR": f"{top}/tmp", "APT_CONFIG": f"{top}/apt.conf"}
    yield Server(top, f"http://127.0.0.1:{http.server_port}", fingerprint, environment)
    http.shutdown()
    http.server_close()
    shutil.rmtree(top)


def _fingerprint(listing: str) -> str:
    return next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))


@dataclass
class AptHost:
    """Where the entry and its key go."""

    server: Server
    top: Path

    @property
    def source(self) -> Path:
        return self.top / "sources.list.d" / "ours.sources"

    @property
    def key(self) -> Path:
        return self.top / "keyrings" / "ours.asc"

    def content(self, name: str) -> str:
        url = name if "://" in name else f"{self.server.url}/{name}"
        return f"# Ours.\nTypes: deb\nURIs: {url}\nSuites: /\nSigned-By: {self.key}\n"

    def add(
        self, name: str = "good", key: str = "key", fingerprint: str = "", path: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        script = addition_script(
            whose="NVIDIA's",
            source=str(self.source),
            key=str(self.key),
            url=f"{self.server.url}/{key}",
            fingerprint=fingerprint or self.server.fingerprint,
            setting="nvidia_repository",
        ).replace("/tmp/add-repository.", f"{self.server.top}/tmp/add-repository.")
        environment |= self.server.environment | {"PATH": f"{path}:{os.environ['PATH']}"}
        return subprocess.run(
            ["sh", "-c", script], input=self.content(name), env=environment, capture_output=True, text=True, check=False
        )

    def files(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.top.rglob("*") if path.is_file()}

    def state(self) -> RepositoryState:
        command = RepositoryEntry().command(source=str(self.source), key=str(self.key))
        environment = os.environ | {"HOME": str(self.top.parent)}
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=True)
        assert not list(self.top.parent.glob(".*")), "a fact has changed the host"
        return RepositoryEntry().process(done.stdout.splitlines())


@pytest.fixture
def target(server: Server, tmp_path: Path) -> AptHost:
    return AptHost(server, tmp_path / "apt")


@needs_apt
def test_repository_that_its_key_has_signed_is_added(target: AptHost) -> None:
    assert target.state() == RepositoryState()
    done = target.add()
    assert (done.returncode, done.stderr) == (0, "")
    key = (target.server.top / "web" / "key").read_text()
    assert target.files() == {"ours.sources": target.content("good"), "ours.asc": key}
    assert {path.stat().st_mode & 0o777 for path in (target.source, target.key)} == {0o644}
    assert target.state() == RepositoryState(target.content("good"), target.server.fingerprint)
    assert list((target.server.top / "tmp").iterdir()) == []
    target.key.write_text((target.server.top / "web" / "two-keys").read_text())
    assert target.state() != RepositoryState(target.content("good"), target.server.fingerprint)


@needs_apt
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            {"fingerprint": "A" * 40},
            f"not {'A' * 40}; it was not installed; nothing was changed. Set nvidia_repository_f",
        ),
        ({"key": "two-keys"}, "it was not installed; nothing was changed. Set nvidia_repository_fingerprint"),
        ({"key": "no-key"}, "/no-key is unreadable, not "),
        ({"key": "missing"}, "the key of NVIDIA's repository cannot be fetched from http"),
        ({"name": "unsigned"}, "is not signed"),
        ({"name": "strange"}, "NO_PUBKEY"),
        ({"name": "changed"}, "unexpected size"),
        ({"name": "http://127.0.0.1:1/closed"}, "Failed to fetch"),
        ({"name": "missing"}, "does not have a Release file"),
    ],
    ids=str,
)
def test_repository_that_apt_could_not_trust_leaves_apt_as_it_was(
    target: AptHost, arguments: dict[str, str], reason: str
) -> None:
    for found in ({}, {"ours.sources": "the old entry\n", "ours.asc": "the old key\n"}):
        if found:
            target.source.write_text(found["ours.sources"])
            target.key.write_text(found["ours.asc"])
        done = target.add(**arguments)
        assert done.returncode == 1
        assert reason in done.stderr
        if "name" in arguments:
            assert "apt cannot use NVIDIA's repository, for the reason above; nothing was changed." in done.stderr
        else:
            assert "W: " not in done.stderr
        assert target.files() == found
    assert list((target.server.top / "tmp").iterdir()) == []


@needs_apt
def test_run_that_is_cut_leaves_the_old_entry_and_the_next_one_finishes(target: AptHost, tmp_path: Path) -> None:
    for path in (target.source, target.key):
        path.parent.mkdir(parents=True)
        path.write_text("old\n")
    (tmp_path / "bin").mkdir()
    noted(tmp_path / "bin", "install", "sync", "mv")
    steps, whole = [], RepositoryState(target.content("good"), target.server.fingerprint)
    for _ in after_cuts(target.top, partial(target.add, path=str(tmp_path / "bin"))):
        steps.append([name for name, text in target.files().items() if not name.endswith(".new") and text != "old\n"])
        assert (target.state() == whole) == (len(steps[-1]) == 2)
        if target.state() != whole:
            assert target.add().returncode == 0
        assert target.state() == whole
        assert set(target.files()) == {"ours.sources", "ours.asc"}
    assert [*map(sorted, steps)] == [[], [], [], ["ours.asc"], ["ours.asc", "ours.sources"]]


@needs_apt
def test_key_is_on_the_disk_before_the_entry_that_needs_it(target: AptHost, tmp_path: Path) -> None:
    programs, key, source = tmp_path / "bin", target.key, target.source
    programs.mkdir()
    noted(programs, "mv", "sync")
    assert target.add(path=str(programs)).returncode == 0
    assert calls(programs) == [
        f"sync {key}.new {source}.new",
        f"mv -fT {key}.new {key}",
        f"sync {key.parent}",
        f"mv -fT {source}.new {source}",
        f"sync {source.parent}",
    ]


@needs_apt
def test_disk_that_is_full_fails_the_run(target: AptHost, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    stand_in(tmp_path / "bin", "install", "exit 1")
    assert target.add(path=str(tmp_path / "bin")).returncode == 1
    assert target.files() == {}


# -- the operation

ARGUMENTS = {
    "whose": "NVIDIA's",
    "path": "/etc/apt/sources.list.d/x.sources",
    "source": "Types: deb\n",
    "key": "/etc/apt/keyrings/x.asc",
    "key_url": "https://a/gpgkey",
    "fingerprint": "A" * 40,
    "setting": "nvidia_repository",
    "lock_timeout": 600,
}
TOOLS = {"gpg": "installed", "ca-certificates": "installed"}


@pytest.mark.parametrize("found", [RepositoryState("Types: deb\n", "B" * 40), RepositoryState("other\n", "A" * 40)])
def test_entry_or_key_that_differs_is_made_anew(found: RepositoryState) -> None:
    (script,) = performed(repository, OperationHost({RepositoryEntry: found, PackageStates: TOOLS}), **ARGUMENTS)
    assert script.connector_arguments["_stdin"] == "Types: deb\n"


def test_repository_that_is_there_with_its_key_is_left_alone() -> None:
    there = RepositoryState("Types: deb\n", "A" * 40)
    assert commands(repository, OperationHost({RepositoryEntry: there}), **ARGUMENTS) == []


def test_tools_that_are_missing_come_first() -> None:
    tools = TOOLS | {"gpg": "half-configured"}
    update, install, script = commands(repository, OperationHost({PackageStates: tools}), **ARGUMENTS)
    assert "update" in update
    assert install.endswith("install gpg")
    assert "--show-keys" in script
