"""Remember how much space earlier builds needed at their peak."""

from __future__ import annotations

import time
from typing import Any

from bulkhead import personal_state

HISTORY = "builds"
_BUILDS = 20  # builds of one image that are remembered
_IMAGES = 100  # images whose builds are remembered
_PERCENTILE = 90
_PATIENCE = 5  # seconds for another one that holds the lock
# "time", "peak": bytes above the start, "size": of the image, or None, "disturbed": whether other builds ran meanwhile
Build = dict[str, Any]
History = dict[str, list[Build]]  # by Arguments.key, the latest build last


def with_build(history: History, key: str, build: Build) -> History:
    """Return the history with one more build."""
    others = sorted((pair for pair in history.items() if pair[0] != key), key=lambda pair: float(pair[1][-1]["time"]))
    return {**dict(others[1 - _IMAGES :]), key: [*history.get(key, []), build][-_BUILDS:]}


def undisturbed(builds: list[Build]) -> list[Build]:
    """Return the builds beside which no other ran; all, if there is none."""
    return [build for build in builds if not build.get("disturbed")] or builds


def typical_peak(builds: list[Build]) -> int:
    """Return the peak that nine of ten builds do not exceed.

    >>> typical_peak([{"peak": size} for size in (7, 1, 2)]), typical_peak([{"peak": size} for size in range(1, 21)])
    (7, 18)
    """
    peaks = sorted(int(build["peak"]) for build in builds)
    return peaks[-(-len(peaks) * _PERCENTILE // 100) - 1]


def load() -> History:
    """Return the history, without damaged entries."""
    return {key: builds for key, builds in personal_state.load(HISTORY).items() if _is_sound(builds)}


def _is_sound(builds: object) -> bool:
    return (
        isinstance(builds, list)
        and bool(builds)
        and all(isinstance(build, dict) and {"time", "peak", "size"} <= build.keys() for build in builds)
        and all(isinstance(build[name], (int, float)) for build in builds for name in ("time", "peak"))
        and all(abs(build[name]) < 2**60 for build in builds for name in ("time", "peak"))  # JSON can have Infinity
    )


def remember(key: str, peak: int, size: int | None, *, disturbed: bool) -> None:
    """
    Args:
        peak: bytes that a build needed.
        size: bytes of its image.
        disturbed: whether other builds ran meanwhile.

    Raises:
        OSError: the history cannot be saved.
    """
    with personal_state.locked(HISTORY, _PATIENCE):
        personal_state.save(
            HISTORY, with_build(load(), key, {"time": time.time(), "peak": peak, "size": size, "disturbed": disturbed})
        )


def forget(key: str) -> list[str]:
    """Forget the builds of a key; of every key if it is empty. Return the keys that were remembered.

    Raises:
        OSError: the history cannot be saved.
    """
    with personal_state.locked(HISTORY, _PATIENCE):
        history = load()
        gone = [each for each in history if key in ("", each)]
        personal_state.save(HISTORY, {each: builds for each, builds in history.items() if each not in gone})
    return gone
