"""Make packages that stand for the large ones, and have apt and pip install these. It runs in the base image, as root.

A stand-in has the name of the real package, a tenth of its size in the incident, and nothing that the example does not use. Its
bulk is zeros: they take all of their space when they are installed, and hardly any before.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

HERE = Path("/opt/stand-ins")
SCALE = 102.4  # MiB for each GB of the incident
ZEROS = bytes(2**20)

COQUI = '"""Text to speech."""\n'
# The part of coqui-tts that the example uses: models are looked up in TTS_HOME, and downloaded if they are not there.
COQUI_API = '''\
import os
import wave
from array import array
from math import pi, sin
from pathlib import Path

RATE = 16_000  # samples per second


class TTS:
    def __init__(self, model_name):
        home = Path(os.environ.get("TTS_HOME") or Path.home() / ".local/share")
        directory = home / "tts" / model_name.replace("/", "--")
        for name, size in (("model.pth", 307), ("dvae.pth", 103)):
            if not (directory / name).exists():
                print(f"downloading {name}, {size} MiB", flush=True)
                directory.mkdir(parents=True, exist_ok=True)
                with open(directory / name, "wb") as file:
                    for _ in range(size):
                        file.write(bytes(2**20))

    def tts_to_file(self, text, file_path):
        """Sing a note for each letter."""
        tones = [220 * 2 ** (ord(letter) % 24 / 12) for letter in text]
        samples = (int(8000 * sin(2 * pi * tone * n / RATE)) for tone in tones for n in range(RATE // 10))
        with wave.open(str(file_path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(array("h", samples).tobytes())
'''
# coqui-tts comes as source, and needs a compiler. This is its build backend (PEP 517).
BACKEND = """\
import shutil
import sys

sys.path.insert(0, "/opt/stand-ins")


def build_wheel(directory, *_, **__):
    if not shutil.which("gcc"):
        raise SystemExit("coqui-tts is compiled: gcc is needed")
    import stand_ins

    return stand_ins.wheel(directory, *stand_ins.COQUI_TTS)
"""

# Name, version, GB in the incident, what it requires, its modules. The first step of the incident brought 8 GB, the second one
# 6: 4 of them for another version of PyTorch, because f5-tts does not work with the newest one.
CUDNN = ("nvidia-cudnn-cu12", "9.1.0.70", 4, (), {})
TORCH = [
    ("torch", version, 3.9, (f"nvidia-cudnn-cu12=={CUDNN[1]}",), {"torch/__init__.py": f'__version__ = "{version}"\n'})
    for version in ("2.4.1", "2.5.1")
]
TORCHAUDIO = [
    ("torchaudio", version, 0.1, (f"torch=={version}",), {"torchaudio/__init__.py": "import torch\n"})
    for version in ("2.4.1", "2.5.1")
]
F5_TTS = ("f5-tts", "1.1.0", 1, ("torch<2.5", "torchaudio"), {"f5_tts/__init__.py": ""})
COQUI_TTS = (
    "coqui-tts",
    "0.25.1",
    1,
    ("torch", "torchaudio"),
    {"TTS/__init__.py": COQUI, "TTS/api.py": COQUI_API},
)


def wheel(
    directory: str | Path, name: str, version: str, gigabytes: float, requires: tuple[str, ...], modules: dict[str, str]
) -> str:
    """Write a wheel, and return the name of its file."""
    plain = name.replace("-", "_")
    info = f"{plain}-{version}.dist-info"
    needed = "".join(f"Requires-Dist: {each}\n" for each in requires)
    files = {
        **modules,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: stand-ins\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    bulk = f"{plain}_libraries/lib{plain}.so"
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, bulk, f"{info}/RECORD"))
    file = f"{plain}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(Path(directory) / file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        with archive.open(bulk, "w", force_zip64=True) as stream:
            for _ in range(round(gigabytes * SCALE)):
                stream.write(ZEROS)
    return file


def source(directory: Path, name: str, version: str) -> None:
    """Write the source distribution of coqui-tts."""
    plain = f"{name.replace('-', '_')}-{version}"
    with tarfile.open(directory / f"{plain}.tar.gz", "w:gz") as archive:
        for path, content in {
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
            "backend.py": BACKEND,
            "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        }.items():
            member = tarfile.TarInfo(f"{plain}/{path}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))


def package(directory: Path, name: str, mebibytes: int = 0, program: str = "") -> str:
    """Build a Debian package, and return its entry in the index of a repository."""
    control = f"Package: {name}\nVersion: 0.1\nArchitecture: all\nMaintainer: the example <root@localhost>\nDescription: stand-in\n"
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch)
        tree.chmod(0o755)
        (tree / "DEBIAN").mkdir()
        (tree / "DEBIAN/control").write_text(control)
        if mebibytes:
            (tree / f"usr/lib/{name}").mkdir(parents=True)
            (tree / f"usr/lib/{name}/bulk").write_bytes(ZEROS * mebibytes)
        if program:
            (tree / "usr/bin").mkdir(parents=True)
            (tree / "usr/bin" / program).write_text("#!/bin/sh\n")
            (tree / "usr/bin" / program).chmod(0o755)
        file = directory / f"{name}.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, file], check=True)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return f"{control}Filename: ./{file.name}\nSize: {file.stat().st_size}\nSHA256: {digest}\n\n"


def main() -> None:
    wheels, packages = HERE / "wheels", HERE / "apt"
    for directory in (wheels, packages):
        directory.mkdir()
    for each in (CUDNN, *TORCH, *TORCHAUDIO, F5_TTS):
        wheel(wheels, *each)
    source(wheels, *COQUI_TTS[:2])
    index = package(packages, "build-essential", mebibytes=51, program="gcc")
    # An image that has Python has these already, perhaps under other names. Version 0.1 replaces none of them.
    for name in ("python3", "python3-dev", "python3-pip"):
        index += package(packages, name)
    (packages / "Packages").write_text(index)
    for each in Path("/etc/apt/sources.list.d").glob("*"):
        each.unlink()
    Path("/etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{packages} ./\n")
    # Debian's pip installs beside Debian's packages only if it may. Others do not know the line.
    Path("/etc/pip.conf").write_text(
        f"[global]\nno-index = true\nfind-links = {wheels}\nbreak-system-packages = true\n"
    )


if __name__ == "__main__":
    main()
