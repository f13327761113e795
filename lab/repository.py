"""A signed apt repository that stands in for Docker's.

Packages of docker-ce's names, in two versions shaped as Docker's are, that bring the distribution's engine: what is
put to the test is the key, its fingerprint, the mirror's address and the pin, not Docker's build.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from lab import cache

# Suite → the engine's own packages there. Debian 12's docker.io has the client in it, later ones split it off.
ENGINES = {"bookworm": "docker.io", "trixie": "docker.io, docker-cli", "sid": "docker.io, docker-cli"}
VERSIONS = ("26.1.4", "26.1.5")
_RELEASES = {"bookworm": "12", "trixie": "13", "sid": "14"}

_BUILD = r"""
set -eu
cd "$1"
# package NAME VERSION DEPENDS: an empty package into the pool.
package() {
    rm -rf tree; mkdir -p tree/DEBIAN
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: the lab <lab@localhost>\nDepends: %s\nDescription: stands in for Docker'"'"'s\n' \
        "$1" "$2" "$3" >tree/DEBIAN/control
    dpkg-deb --root-owner-group --build tree "pool/$suite" >/dev/null
    rm -rf tree
}
suite=$2 release=$3 engine=$4 versions=$5
mkdir -p "pool/$suite" "dists/$suite/stable/binary-amd64"
for version in $versions; do
    full="5:$version-1~debian.$release~$suite"
    package docker-ce "$full" "$engine, containerd.io, docker-ce-cli"
    package docker-ce-cli "$full" "$engine"
done
package containerd.io "1.7.18-1" containerd
package docker-buildx-plugin "0.14.1-1~debian.$release~$suite" docker-ce-cli
package docker-compose-plugin "2.27.1-1~debian.$release~$suite" docker-ce-cli
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
            if not (repository.directory / "debian" / "gpg").exists():
                repository._make()
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
        tree.mkdir()
        for suite, engine in ENGINES.items():
            arguments = [str(tree), suite, _RELEASES[suite], engine, " ".join(VERSIONS)]
            subprocess.run(["sh", "-c", _BUILD, "build", *arguments], check=True, env=self._environment)
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
            alive = b"http.server" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ValueError):
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
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        self._pid_file.write_text(f"{server.pid} {port}\n")
