"""Packages that stand in for NVIDIA's container toolkit.

They have NVIDIA's names, files, units and maintainer scripts, and stand-ins for its programs (``lab/nvidia``). They test
how a host installs and uses the toolkit; they do not test a GPU.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from lab import deb

TOOLKIT_VERSIONS = ("1.19.1", "1.20.1")
SOURCES = Path(__file__).parent / "nvidia"

_LIBRARIES = "usr/lib/x86_64-linux-gnu"
# Up to 1.19 the units lie below /etc.
_UNITS = {"1.19": "etc/systemd/system", "1.20": "lib/systemd/system"}


def make(directory: Path) -> None:
    """Build every version of the packages into a directory."""
    for version in TOOLKIT_VERSIONS:
        for paragraph in (SOURCES / "control").read_text().replace("@VERSION@", version).split("\n\n"):
            with tempfile.TemporaryDirectory(dir=directory) as scratch:
                tree = Path(scratch) / "tree"
                _fill(tree, deb.fields(paragraph), version)
                deb.build(tree, directory)


def _fill(tree: Path, fields: dict[str, str], version: str) -> None:
    name, minor = fields["Package"], version.rpartition(".")[0]
    for source, target in _files(minor)[name].items():
        _copy(source, tree / target / source, version)
    if name == "libnvidia-container1":
        (tree / _LIBRARIES).mkdir(parents=True)
        for library in ("libnvidia-container.so", "libnvidia-container-go.so"):
            (tree / _LIBRARIES / f"{library}.{version}").touch()
            (tree / _LIBRARIES / f"{library}.1").symlink_to(f"{library}.{version}")
    for script in ("preinst", "postinst", "prerm", "postrm"):
        for source in (f"{name}.{script}", f"{name}.{minor}.{script}"):
            if (SOURCES / source).exists():
                _copy(source, tree / "DEBIAN" / script, version)
    fields |= {
        "Version": f"{version}-1",
        "Architecture": "amd64",
        "Section": "utils",
        "Maintainer": "the lab <lab@localhost>",
        "Description": "stands in for NVIDIA's package of that name",
    }
    (tree / "DEBIAN").mkdir(exist_ok=True)
    (tree / "DEBIAN" / "control").write_text(deb.control(fields))
    # As debhelper does: every file below /etc is a configuration file.
    if configuration := [f"/{path.relative_to(tree)}\n" for path in sorted(tree.glob("etc/**/*")) if path.is_file()]:
        (tree / "DEBIAN" / "conffiles").write_text("".join(configuration))


def _files(minor: str) -> dict[str, dict[str, str]]:
    """Return package → file → target directory."""
    return {
        "nvidia-container-toolkit": {"nvidia-container-runtime-hook": "usr/bin"},
        "nvidia-container-toolkit-base": {
            "nvidia-container-runtime": "usr/bin",
            "nvidia-ctk": "usr/bin",
            "nvidia-cdi-hook": "usr/bin",
            "nvidia-cdi-refresh.service": _UNITS[minor],
            "nvidia-cdi-refresh.path": _UNITS[minor],
            "nvidia-cdi-refresh.env": "etc/nvidia-container-toolkit",
        },
        "libnvidia-container-tools": {"nvidia-container-cli": "usr/bin"},
        "libnvidia-container1": {},
    }


def _copy(source: str, target: Path, version: str) -> None:
    text = (SOURCES / source).read_text().replace("@VERSION@", version)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(0o755 if text.startswith("#!") else 0o644)
