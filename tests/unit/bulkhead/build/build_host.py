"""A host for builds: its docker, its engine and its volume are fakes."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead import names
from bulkhead.build import commands
from bulkhead.guard import reservations
from bulkhead.guard.reservations import Account, Accounts, Stop
from bulkhead.parser import Parser
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
        self.account: Account | None = None  # what the guard has counted for each build
        self.stopped: list[tuple[float, list[str]]] = []  # seconds before now, and other clients that it may have been

    def statvfs(self, _: str = "") -> SimpleNamespace:
        """Return what statvfs says of the volume, with what the fake docker has written to it."""
        written = self.place / "written"
        content = written.read_text() if written.exists() else ""
        if content:
            (self.place / "seen").touch()
        used = self.used + int(content or 0)
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

    def accounts(self) -> Accounts:
        """Return what the guard has written down."""
        builds = reservations.standing()
        account = self.account or Account()
        stops = (Stop(time.time() - ago, [*others, *(each.client for each in builds)]) for ago, others in self.stopped)
        return Accounts(time.time() + 1, {each.process: account for each in builds if self.account}, tuple(stops))

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


def options(words: str = "-t app .", **changed: Any) -> argparse.Namespace:
    """Return the options of `bulkhead build` and of `bulkhead preflight`."""
    given = {"need": G, "limit": 0, "wait": 0.0, "snapshot": False, "list": False, "forget": None, "json": False}
    return argparse.Namespace(**{**given, "arguments": words.split(), "parser": Parser("bulkhead build"), **changed})


def run(words: str = "-t app .", **changed: Any) -> int:
    return commands.run(CONFIG, options(words, **changed))


def preflight(words: str = "-t app .", *, need: int | None = G, as_json: bool = False, limit: int = 0) -> int:
    return commands.preflight(CONFIG, options(words, need=need, json=as_json, limit=limit))


def past_build(peak: int, time: float = 0.0, *, disturbed: bool = False) -> dict[str, Any]:
    return {"time": time, "peak": peak, "size": None, "disturbed": disturbed}
