"""A host for builds: its docker, its engine and its volume are fakes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead import names
from bulkhead.build import commands
from bulkhead.sizes import Size

from ..configs import config
from ..fake_engine import Query

G, M = 2**30, 2**20


CONFIG = config(watched_units=("docker-prune.timer", names.GUARD_SERVICE), guard_floor=Size.parse("2G"))


class BuildHost:
    """A host with a volume of 100 GiB, half of it free, and an engine with 3 GiB of idle cache."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.used = 50 * G
        self.cache = 3 * G
        self.images: dict[str, int] = {}
        self.snapshots: list[dict[str, Any]] = []

    def statvfs(self, _: str = "") -> SimpleNamespace:
        """Return what statvfs says of the volume, with what the fake docker has written to it."""
        written = self.place / "written"
        used = self.used + (int(written.read_text() or 0) if written.exists() else 0)
        free = 100 * G - used
        return SimpleNamespace(f_frsize=1, f_blocks=100 * G, f_bfree=free, f_bavail=free, f_files=1000, f_ffree=900)

    def docker(self, script: str) -> None:
        """Make docker run this script instead of a build."""
        path = self.place / "bin" / "docker"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >{self.place}/words\ncd {self.place}\n{script}\n")
        path.chmod(0o755)

    @property
    def words(self) -> list[str]:
        return (self.place / "words").read_text().splitlines()

    def has_begun(self) -> bool:
        return (self.place / "words").exists()

    def answer(self, _method: str, path: str, _query: Query) -> tuple[int, Any]:
        if path == "/system/df":
            record = {"ID": "a", "Size": self.cache, "InUse": False, "Shared": False, "LastUsedAt": ""}
            idle = {
                "Id": "sha256:1",
                "RepoTags": ["old:1"],
                "RepoDigests": [],
                "Labels": None,
                "Size": G,
                "SharedSize": 0,
            }
            return 200, {"BuildCache": [record] if self.cache else [], "Images": [idle], "Containers": []}
        if path == "/build/prune":
            freed, self.cache = self.cache, 0
            self.used -= freed
            return 200, {"CachesDeleted": ["a"], "SpaceReclaimed": freed}
        name = path.removeprefix("/images/").removesuffix("/json")
        return (200, {"Size": self.images[name]}) if name in self.images else (404, {"message": "No such image"})


def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def run(words: str = "-t app .", *, need: int | None = G, snapshot: bool = False) -> int:
    return commands.run(CONFIG, argparse.Namespace(need=need, snapshot=snapshot, arguments=words.split()))


def preflight(words: str = "-t app .", *, need: int | None = G, as_json: bool = False) -> int:
    return commands.preflight(CONFIG, argparse.Namespace(need=need, json=as_json, arguments=words.split()))


def past_build(peak: int, time: float = 0.0) -> dict[str, Any]:
    return {"time": time, "peak": peak, "size": None}
