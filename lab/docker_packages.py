"""Packages that stand in for Docker's.

They have the names and version numbers of docker-ce, and contain the distribution's engine. They conflict with the
distribution's packages as Docker's do. They test the key, its fingerprint, the mirror's address, the pin and the change of
engines; they do not test Docker's build.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from lab import deb

VERSIONS = ("26.1.4", "26.1.5", "27.5.1")  # a patch release, and a larger step
SUITES = {"bookworm": "12", "trixie": "13"}

# Docker's package → the distribution's package that provides its content. In Debian 12, docker.io contains the client.
_ENGINE = {
    "bookworm": {"docker-ce": "docker.io", "containerd.io": "containerd"},
    "trixie": {"docker-ce": "docker.io", "docker-ce-cli": "docker-cli", "containerd.io": "containerd"},
}
# Docker's package → one of the distribution's that is a part of it too.
_PART = {"containerd.io": "runc"}
# Packages without content.
_EMPTY = {"bookworm": ("docker-ce-cli",), "trixie": ()}
_PLUGINS = ("docker-buildx-plugin", "docker-compose-plugin")
_VERSIONED = ("docker-ce", "docker-ce-cli")


def make(pool: Path, suite: str) -> None:
    """Build the packages of one suite into a directory."""
    suffix = f"-1~debian.{SUITES[suite]}~{suite}"
    with tempfile.TemporaryDirectory(dir=pool.parent) as scratch:
        _download(suite, [*_ENGINE[suite].values(), *_PART.values()], Path(scratch))
        for name in (*_ENGINE[suite], *_EMPTY[suite], *_PLUGINS):
            source = _ENGINE[suite].get(name)
            for version in VERSIONS if name in _VERSIONED else VERSIONS[-1:]:
                tree = Path(scratch) / "tree"
                if source:
                    theirs = _unpack(Path(scratch), source, tree)
                    if part := _PART.get(name):
                        others = _unpack(Path(scratch), part, Path(scratch) / "part")
                        theirs["Depends"] += f", {others['Depends']}"
                        shutil.copytree(Path(scratch) / "part" / "usr", tree / "usr", symlinks=True, dirs_exist_ok=True)
                        shutil.rmtree(Path(scratch) / "part")
                else:
                    (tree / "DEBIAN").mkdir(parents=True)
                    theirs = {"Architecture": "all", "Maintainer": "the lab <lab@localhost>", "Description": "empty"}
                ours = fields(theirs, name, f"5:{version}{suffix}", source, suite)
                (tree / "DEBIAN" / "control").write_text(deb.control(ours))
                deb.build(tree, pool)
                shutil.rmtree(tree)


def _unpack(directory: Path, package: str, tree: Path) -> dict[str, str]:
    """Unpack a package that lies in a directory, and return its control fields."""
    (file,) = directory.glob(f"{package}_*.deb")
    subprocess.run(["fakeroot", "dpkg-deb", "--raw-extract", file, tree], check=True)
    return deb.fields((tree / "DEBIAN" / "control").read_text())


def _download(suite: str, packages: list[str], directory: Path) -> None:
    """Download the distribution's packages from the mirror that mmdebstrap uses."""
    hook = f'cd "$1/root" && chroot "$1" sh -c "cd /root && apt-get -qq download {" ".join(packages)}"'
    copy = [f"--customize-hook=copy-out /root {directory}"]
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=apt", f"--customize-hook={hook}", *copy, suite, "/dev/null"], check=True
    )
    for package in (directory / "root").glob("*.deb"):
        package.rename(directory / package.name)


def fields(theirs: dict[str, str], name: str, version: str, source: str | None, suite: str) -> dict[str, str]:
    """Return the control fields of a package with Docker's name, from those of the distribution's package."""
    ours = {theirs: dockers for content in (_ENGINE[suite], _PART) for dockers, theirs in content.items()}
    kept = {
        key: value
        for key, value in theirs.items()
        if key not in ("Conflicts", "Breaks", "Replaces", "Provides", "Recommends", "Suggests")
    }
    depends = [
        re.sub(r"^[a-z0-9.+-]+", lambda match: ours.get(match[0], match[0]), word)
        for word in theirs.get("Depends", "").split(", ")
        if word
    ]
    # Docker's packages depend on other versions of each other than the distribution's do.
    depends = [re.sub(r" \(.*\)$", "", word) if word.split()[0] in ours.values() else word for word in depends]
    depends = [word for word in depends if word != name]
    if name == "docker-ce":
        depends += ["docker-ce-cli"]
    if name in _PLUGINS:
        depends += ["docker-ce-cli"]
    kept |= {"Package": name, "Version": version, "Depends": ", ".join(dict.fromkeys(depends))}
    if source:
        kept |= dict.fromkeys(("Conflicts", "Replaces"), ", ".join(filter(None, (source, _PART.get(name)))))
    return kept
