"""A signed apt repository that stands in for Docker's and for NVIDIA's."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lab import LabError, cache, deb, docker_packages, nvidia_packages


class LabRepository:
    """The repository, and its server on 127.0.0.1."""

    def __init__(self) -> None:
        self.directory = cache.root() / "lab" / "repository"
        self._home = self.directory / "gnupg"
        self._pid_file = self.directory / "server"

    @classmethod
    def running(cls) -> LabRepository:
        """Return the repository; make it and start its server where needed."""
        repository = cls()
        with cache.locked(repository.directory):
            recipe, made_by = _recipe(), repository.directory / "made-by"
            if not made_by.exists() or made_by.read_text() != recipe:
                cls.stop_running()
                repository._make()
                made_by.write_text(recipe)
            if repository._server() is None:
                repository._start()
        return repository

    @classmethod
    @contextlib.contextmanager
    def served(cls) -> Iterator[LabRepository]:
        """Serve the repository until the last process leaves this block."""
        own = cls()
        own.directory.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{own.directory}.users", "w") as users:
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                yield cls.running()
            finally:
                with contextlib.suppress(BlockingIOError):  # another process still uses it
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    cls.stop_running()

    @classmethod
    def stop_unused(cls) -> None:
        """Stop the server if the last process that used it was killed inside of ``served``."""
        # BlockingIOError: another process uses it.
        with (
            contextlib.suppress(FileNotFoundError, BlockingIOError),
            open(f"{cls().directory}.users") as users,
        ):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            cls.stop_running()

    @classmethod
    def stop_running(cls) -> None:
        """Stop the server if it runs."""
        if server := cls()._server():
            os.kill(server[0], signal.SIGTERM)

    @property
    def url_of_guests(self) -> str:
        """Return the address under which a machine of the lab reaches the server.

        Below it, ``/debian`` is Docker's repository, ``/libnvidia-container`` is NVIDIA's, and
        ``/unsigned/libnvidia-container`` is NVIDIA's without a signature.
        """
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
        key = self._gpg("--armor", "--export")
        self._make_docker(self.directory / "debian", key)
        self._make_nvidia(self.directory / "libnvidia-container", key)
        # gpg started an agent: stop it.
        subprocess.run(["gpgconf", "--kill", "all"], check=True, env=self._environment)

    def _make_docker(self, tree: Path, key: str) -> None:
        for suite in docker_packages.SUITES:
            pool, dist = tree / "pool" / suite, tree / "dists" / suite
            pool.mkdir(parents=True)
            docker_packages.make(pool, suite)
            lists = dist / "stable" / "binary-amd64"
            lists.mkdir(parents=True)
            (lists / "Packages").write_text(_apt_ftparchive("packages", f"pool/{suite}", directory=tree))
            self._release(dist, Suite=suite, Codename=suite, Components="stable", Architectures="amd64")
        (tree / "gpg").write_text(key)

    def _make_nvidia(self, tree: Path, key: str) -> None:
        flat = tree / "stable" / "deb" / "amd64"
        flat.mkdir(parents=True)
        nvidia_packages.make(flat)
        (flat / "Packages").write_text(_apt_ftparchive("packages", ".", directory=flat))
        self._release(flat, Origin="the lab", Label="the lab", Codename="stable", Architectures="amd64")
        (tree / "gpgkey").write_text(key)
        unsigned = shutil.copytree(tree, self.directory / "unsigned" / tree.name)
        (unsigned / flat.relative_to(tree) / "InRelease").unlink()

    def _release(self, directory: Path, **fields: str) -> None:
        """Write ``Release`` for the lists in a directory, and sign it as ``InRelease``."""
        options = [
            word for name, value in fields.items() for word in ("-o", f"APT::FTPArchive::Release::{name}={value}")
        ]
        (directory / "Release").write_text(_apt_ftparchive(*options, "release", ".", directory=directory))
        self._gpg("--clearsign", "--output", str(directory / "InRelease"), str(directory / "Release"))

    @property
    def _environment(self) -> dict[str, str]:
        return os.environ | {"GNUPGHOME": str(self._home)}

    def _gpg(self, *arguments: str) -> str:
        done = subprocess.run(
            ["gpg", "--batch", "--quiet", *arguments], check=True, capture_output=True, text=True, env=self._environment
        )
        return done.stdout

    def _server(self) -> tuple[int, int] | None:
        """Return the process number and the port of the server; None: it does not run."""
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
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        server.kill()
        raise LabError(f"the lab's apt repository does not answer on 127.0.0.1:{port}")


def _recipe() -> str:
    """Return a digest that changes when the repository must be made anew."""
    modules = (__file__, deb.__file__, docker_packages.__file__, nvidia_packages.__file__)
    # No package contains play-gpu.sh: a change of it needs no new repository.
    packaged = [source for source in sorted(nvidia_packages.SOURCES.iterdir()) if source.suffix != ".sh"]
    sources = [*map(Path, modules), *packaged]
    return hashlib.sha256(b"".join(source.name.encode() + source.read_bytes() for source in sources)).hexdigest()


def _apt_ftparchive(*arguments: str, directory: Path) -> str:
    done = subprocess.run(["apt-ftparchive", *arguments], cwd=directory, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout
