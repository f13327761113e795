"""A signed apt repository that stands in for Docker's.

Packages of docker-ce's names, in two versions shaped as Docker's are, with the distribution's engine in them, since its
own packages and Docker's exclude each other: what is put to the test is the key, its fingerprint, the mirror's address,
the pin and the change of engines, not Docker's build.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lab import LabError, cache

VERSIONS = ("26.1.4", "26.1.5")
_RELEASES = {"bookworm": "12", "trixie": "13"}

# Docker's package → the distribution's that its content comes from. Debian 12 has the client in docker.io.
_ENGINE = {
    "bookworm": {"docker-ce": "docker.io", "containerd.io": "containerd"},
    "trixie": {"docker-ce": "docker.io", "docker-ce-cli": "docker-cli", "containerd.io": "containerd"},
}
# Those that bring nothing here.
_EMPTY = {"bookworm": ("docker-ce-cli",), "trixie": ()}
_PLUGINS = ("docker-buildx-plugin", "docker-compose-plugin")
_VERSIONED = ("docker-ce", "docker-ce-cli")

_INDEX = r"""
set -eu
cd "$1"
suite=$2
mkdir -p "dists/$suite/stable/binary-amd64"
apt-ftparchive packages "pool/$suite" >"dists/$suite/stable/binary-amd64/Packages"
apt-ftparchive -o APT::FTPArchive::Release::Suite="$suite" -o APT::FTPArchive::Release::Codename="$suite" \
    -o APT::FTPArchive::Release::Components=stable -o APT::FTPArchive::Release::Architectures=amd64 \
    release "dists/$suite" >Release
mv Release "dists/$suite/Release"
gpg --batch --yes --quiet --clearsign --output "dists/$suite/InRelease" "dists/$suite/Release"
"""


class Repository:
    """The repository, served on 127.0.0.1 for as long as it runs."""

    def __init__(self) -> None:
        self.directory = cache.root() / "lab" / "repository"
        self._home = self.directory / "gnupg"
        self._pid_file = self.directory / "server"

    @classmethod
    def running(cls) -> Repository:
        """The repository, made and started where it is not."""
        repository = cls()
        with cache.locked(repository.directory):
            recipe, made_by = hashlib.sha256(Path(__file__).read_bytes()).hexdigest(), repository.directory / "made-by"
            if not made_by.exists() or made_by.read_text() != recipe:
                cls.stop_running()
                repository._make()
                made_by.write_text(recipe)
            if repository._server() is None:
                repository._start()
        return repository

    @classmethod
    def stop_running(cls) -> None:
        """Stop the server, if it runs."""
        if server := cls()._server():
            os.kill(server[0], signal.SIGTERM)

    @property
    def url_of_guests(self) -> str:
        """Its address as a machine of the lab sees it; ``/debian`` comes after it."""
        server = self._server()
        assert server, "the repository is not running"
        return f"http://10.0.2.2:{server[1]}"

    @property
    def fingerprint(self) -> str:
        listing = self._gpg("--with-colons", "--list-keys")
        return next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))

    def _make(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        self._home.mkdir(parents=True, mode=0o700)
        self._gpg("--passphrase", "", "--quick-generate-key", "lab <lab@localhost>", "ed25519", "sign", "never")
        tree = self.directory / "debian"
        for suite in _RELEASES:
            pool = tree / "pool" / suite
            pool.mkdir(parents=True)
            _fill(pool, suite)
            subprocess.run(["sh", "-c", _INDEX, "index", tree, suite], check=True, env=self._environment)
        (tree / "gpg").write_text(self._gpg("--armor", "--export"))
        # The agent that gpg started must not outlive this.
        subprocess.run(["gpgconf", "--kill", "all"], check=True, env=self._environment)

    @property
    def _environment(self) -> dict[str, str]:
        return os.environ | {"GNUPGHOME": str(self._home)}

    def _gpg(self, *arguments: str) -> str:
        done = subprocess.run(
            ["gpg", "--batch", "--quiet", *arguments], check=True, capture_output=True, text=True, env=self._environment
        )
        return done.stdout

    def _server(self) -> tuple[int, int] | None:
        """Process number and port of the server, if it runs."""
        try:
            pid, port = map(int, self._pid_file.read_text().split())
            alive = os.fsencode(self.directory) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        return (pid, port) if alive else None

    def _start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", self.directory, str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._pid_file.write_text(f"{server.pid} {port}\n")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        server.kill()
        raise LabError(f"the lab's apt repository does not answer on 127.0.0.1:{port}")


def _fill(pool: Path, suite: str) -> None:
    """Make the packages of one suite."""
    suffix = f"-1~debian.{_RELEASES[suite]}~{suite}"
    with tempfile.TemporaryDirectory(dir=pool.parent) as scratch:
        _download(suite, list(_ENGINE[suite].values()), Path(scratch))
        for name in (*_ENGINE[suite], *_EMPTY[suite], *_PLUGINS):
            source = _ENGINE[suite].get(name)
            for version in VERSIONS if name in _VERSIONED else VERSIONS[-1:]:
                tree = Path(scratch) / "tree"
                if source:
                    (package,) = Path(scratch).glob(f"{source}_*.deb")
                    subprocess.run(["fakeroot", "dpkg-deb", "--raw-extract", package, tree], check=True)
                    fields = _fields((tree / "DEBIAN" / "control").read_text())
                else:
                    (tree / "DEBIAN").mkdir(parents=True)
                    fields = {"Architecture": "all", "Maintainer": "the lab <lab@localhost>", "Description": "empty"}
                (tree / "DEBIAN" / "control").write_text(_control(fields, name, f"5:{version}{suffix}", source, suite))
                subprocess.run(
                    ["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", tree, pool],
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
                shutil.rmtree(tree)


def _download(suite: str, packages: list[str], directory: Path) -> None:
    """The distribution's packages, from where mmdebstrap takes them."""
    hook = f'cd "$1/root" && chroot "$1" sh -c "cd /root && apt-get -qq download {" ".join(packages)}"'
    copy = [f"--customize-hook=copy-out /root {directory}"]
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=apt", f"--customize-hook={hook}", *copy, suite, "/dev/null"], check=True
    )
    for package in (directory / "root").glob("*.deb"):
        package.rename(directory / package.name)


def _fields(control: str) -> dict[str, str]:
    """A control file's fields; a value keeps its further lines (deb-control(5))."""
    return {name: value.strip() for name, value in re.findall(r"^(\S+):(.*(?:\n[ \t].*)*)", control, re.MULTILINE)}


def _control(fields: dict[str, str], name: str, version: str, source: str | None, suite: str) -> str:
    """The control file of a package of Docker's name."""
    ours = {theirs: docker for docker, theirs in _ENGINE[suite].items()}
    kept = {
        key: value
        for key, value in fields.items()
        if key not in ("Conflicts", "Breaks", "Replaces", "Provides", "Recommends", "Suggests")
    }
    depends = [
        re.sub(r"^[a-z0-9.+-]+", lambda match: ours.get(match[0], match[0]), word)
        for word in fields.get("Depends", "").split(", ")
        if word
    ]
    # The versions that the distribution's packages ask of each other are not those of Docker's.
    depends = [re.sub(r" \(.*\)$", "", word) if word.split()[0] in ours.values() else word for word in depends]
    if name == "docker-ce":
        depends += ["docker-ce-cli"]
    if name in _PLUGINS:
        depends += ["docker-ce-cli"]
    kept |= {"Package": name, "Version": version, "Depends": ", ".join(dict.fromkeys(depends))}
    if source:
        kept |= {"Conflicts": source, "Replaces": source}
    return "".join(f"{key}: {value}\n" for key, value in kept.items() if value)
