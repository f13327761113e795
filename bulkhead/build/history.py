"""Remember how much space earlier builds needed at their peak."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from typing import TYPE_CHECKING, Any

from bulkhead import files, state

if TYPE_CHECKING:
    from collections.abc import Iterator

HISTORY = "builds"
_BUILDS = 5  # builds of one image that are remembered
_MONTH = 30 * 86400  # seconds
_IMAGES = 100  # images whose builds are remembered
Build = dict[str, Any]  # "time", "peak": bytes above the start, "size": of the image, or None
History = dict[str, list[Build]]  # by Arguments.key, the latest build last


def with_build(history: History, key: str, build: Build) -> History:
    """Return the history with one more build.

    A build from the cache needs next to nothing, which says nothing about the next build. So the largest build of a month
    stays, beside the latest ones.
    """
    builds = [*history.get(key, []), build]
    latest = builds[-_BUILDS:]
    month = [each for each in builds if each["time"] > build["time"] - _MONTH]
    largest = max(month, key=lambda each: int(each["peak"]))
    kept = latest if largest in latest else [largest, *latest[1:]]
    others = sorted((pair for pair in history.items() if pair[0] != key), key=lambda pair: float(pair[1][-1]["time"]))
    return {**dict(others[1 - _IMAGES :]), key: kept}


def load() -> History:
    """Return the history, without damaged entries."""
    if os.geteuid() == 0:
        values = state.load(HISTORY)
    else:
        try:
            with open(_path(), encoding="utf-8") as file:
                values = json.load(file)
        except (OSError, ValueError):
            values = {}
    return {key: builds for key, builds in values.items() if _is_sound(builds)} if isinstance(values, dict) else {}


def _is_sound(builds: object) -> bool:
    return (
        isinstance(builds, list)
        and bool(builds)
        and all(isinstance(build, dict) and {"time", "peak", "size"} <= build.keys() for build in builds)
        and all(isinstance(build[name], (int, float)) for build in builds for name in ("time", "peak"))
    )


def remember(key: str, peak: int, size: int | None) -> None:
    """
    Args:
        peak: bytes that a build needed.
        size: bytes of its image.

    Raises:
        OSError: the history cannot be saved.
    """
    with _alone():
        history = with_build(load(), key, {"time": time.time(), "peak": peak, "size": size})
        if os.geteuid() == 0:
            state.save(HISTORY, history)
        else:
            files.replace_file(_path(), json.dumps(history), 0o600)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock on the history."""
    if os.geteuid() == 0:
        with state.locked(HISTORY, 5):
            yield
        return
    os.makedirs(os.path.dirname(_path()), mode=0o700, exist_ok=True)
    with open(f"{_path()}.lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _path() -> str:
    """Return the path of the history of a user other than root."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return f"{base}/bulkhead/{HISTORY}.json"
