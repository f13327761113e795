"""Bills to show, to compare and to hold to limits, and a docker that builds one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bulkhead.bill.bill import Bill, BillStep
from bulkhead.bill.waste import WastedPlace

from .archives import layer, oci_layout
from .recordings import BUILDKIT_20, IMAGE

K, M, G = 2**10, 2**20, 2**30


def bill(number: int = 1, **changed: Any) -> Bill:
    """Return the bill of the incident's image."""
    values: dict[str, Any] = {
        "number": number,
        "key": "tts",
        "name": "tts:1",
        "time": 1_764_000_000.0,
        "code": 0,
        "seconds": 1512.0,
        "engine": "Docker 26.1.5, overlay2",
        "builder": "BuildKit",
        "image": IMAGE,
        "peak": 24 * G,
        "peak_step": "[3/6] RUN pip install torch",
        "cache_written": 19 * G,
        "cache_added": 3 * G,
        "cache_total": 5 * G,
        "size": 16 * G,
        "compressed": None,
        "layers": 9,
        "wasted": 2 * G,
        "models": 4 * G,
        "context": 200 * M,
        "sent": 150 * M,
        "stored": 200 * M,
        "steps_written": None,
        "is_disturbed": False,
        "steps": (
            BillStep("[1/6] FROM nvidia/cuda:12.4.1", 41.5, False, 7 * G, None, 0),
            BillStep("[2/6] RUN apt-get install build-essential", None, True, None, 500 * M, 0),
            BillStep("[3/6] RUN pip install torch torchaudio", 700.0, False, 8 * G, 8 * G, 0),
        ),
        "places": (WastedPlace("root/.cache/pip", 2 * G, 2, 4),),
        "unknown": {"compressed": "this engine keeps the layers of images uncompressed"},
    }
    return Bill(**{**values, **changed})


INFO: dict[str, Any] = {
    "Name": os.uname().nodename,
    "KernelVersion": os.uname().release,
    "ServerVersion": "26.1.5",
    "Driver": "overlay2",
    "DriverStatus": [["Backing Filesystem", "extfs"]],
}


INSTRUCTIONS = {"COPY /out /models/m.safetensors # buildkit": 10 * M, "RUN /bin/sh -c rm /junk # buildkit": 0}


def saved_image() -> bytes:
    """Return what `docker save` writes of the image that the docker below builds."""
    layers = [layer({"models/m.safetensors": 9 * M, "junk": M}), layer({".wh.junk": 0})]
    return oci_layout(layers, INSTRUCTIONS)


class BillDocker:
    """A docker in a directory of PATH. It answers what it is told to, and notes the command lines that it was given.

    Args:
        place: the directory.
        archive: of the image that it builds.
    """

    def __init__(self, place: Path, archive: Path) -> None:
        self.place = place
        self.info = {**INFO, "DockerRootDir": str(place)}
        (place / "bin").mkdir()
        self.build("cat output >&2")
        self.answer("save", f"cat {place}/image.tar")
        self.answer("history", f"cat {place}/history")
        (place / "output").write_text(BUILDKIT_20)
        (place / "image.tar").symlink_to(archive)
        self.history(*((instruction, size) for instruction, size in reversed(INSTRUCTIONS.items())))
        self.image: dict[str, Any] | None = {"Id": IMAGE, "Size": 10 * M, "RootFS": {"Layers": ["a", "b"]}}

    def answer(self, command: str, script: str) -> None:
        """Make a command run a script of shell."""
        (self.place / f"answer-{command}").write_text(script)

    def build(self, script: str) -> None:
        self.answer("build", script)

    def history(self, *lines: tuple[str, int]) -> None:
        """Set the history of the image, the newest first."""
        text = "".join(json.dumps({"CreatedBy": each, "Size": str(size)}) + "\n" for each, size in lines)
        (self.place / "history").write_text(text)

    def install(self) -> None:
        """Write the program, with what it answers now."""
        (self.place / "info").write_text(json.dumps(self.info))
        (self.place / "image").write_text(json.dumps([self.image]) if self.image else "")
        path = self.place / "bin" / "docker"
        path.write_text(
            f'#!/bin/sh\ncd {self.place}\necho "$@" >>calls\n'
            "case $1 in --host|--context|--config) shift 2;; esac\n"
            'case "$1 $2" in "image inspect") [ -s image ] || { echo "Error: No such image" >&2; exit 1; }; cat image; exit;;\n'
            '"context inspect") cat context 2>/dev/null; exit;;\nesac\n'
            "case $1 in info) cat info;; *) [ -f answer-$1 ] || "
            "{ echo \"docker: '$1' is not a docker command.\" >&2; exit 1; }; . ./answer-$1;; esac\n"
        )
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return (self.place / "calls").read_text().splitlines()
