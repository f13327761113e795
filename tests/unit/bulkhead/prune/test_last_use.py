"""What shows the last use of objects, and what time counts as disuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead import state
from bulkhead.uptime import Point, Uptime

from ..configs import config
from .contents import (
    NOW,
    FakeContents,
    ago,
    container,
    image,
    known,
    network,
    record,
    run,
    up_for,
)


def count_changes(tmp_path: Path, name: str, changes: int) -> None:
    """Let the kernel have counted so many changes of a bridge's carrier."""
    (tmp_path / "net" / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "net" / name / "carrier_changes").write_text(f"{changes}\n")


def test_network_of_jobs_that_leave_no_container_stays(contents: FakeContents, tmp_path: Path) -> None:
    contents.networks.append(network("jobs"))
    for changes in (6, 8, 10):
        known("networks", jobs=60)
        count_changes(tmp_path, "br-id-jobs", changes)
        run()
        assert contents.names() == {"jobs"}
    known("networks", jobs=60)
    run()
    assert contents.names() == set()


def test_bridge_is_called_after_the_first_twelve_digits_of_its_network(contents: FakeContents, tmp_path: Path) -> None:
    state.save("networks", {"0123456789abcdef": 0})
    contents.networks.append(network("jobs", Id="0123456789abcdef"))
    count_changes(tmp_path, "br-0123456789ab", 2)
    run()
    assert contents.names() == {"0123456789abcdef"}


@pytest.mark.parametrize("boot", ["0", "z"])
@pytest.mark.parametrize(("changes", "left"), [(0, set()), (1, set()), (2, {"jobs"}), (3, {"jobs"})])
def test_network_that_was_used_since_a_boot_stays(
    contents: FakeContents, tmp_path: Path, changes: int, left: set[str], boot: str
) -> None:
    known("networks", jobs=60)
    state.save("counted", {"time": 0, "bridges": {"id-jobs": f"{boot} {changes}"}})
    contents.networks.append(network("jobs", Options={"com.docker.network.bridge.name": "ci0"}))
    count_changes(tmp_path, "ci0", changes)
    run()
    assert contents.names() == left


def test_network_and_image_that_a_check_has_seen_in_use_stay(contents: FakeContents) -> None:
    known("networks", jobs=60, other=60)
    known("images", job=60, other=60)
    an_hour_ago = NOW.timestamp() - 3600
    state.save("sightings", {"networks": {"id-jobs": an_hour_ago}, "images": {"sha256:job": an_hour_ago, "x": "?"}})
    contents.networks += [network("jobs"), network("other")]
    contents.images = [image("job", "job:1"), image("other", "o:1")]
    run(config(prune_images_after_days=1))
    assert contents.names() == {"jobs", "job"}
    assert state.load("networks")["id-jobs"] == an_hour_ago


def test_only_time_that_the_host_was_up_counts(contents: FakeContents) -> None:
    known("networks", net=60)
    known("images", lost=60, named=60)
    contents.cache = [record("old", 60)]
    contents.containers = [container("old", "i")]
    contents.networks.append(network("net"))
    contents.images = [image("lost", tagged=ago(60)), image("named", "a:1", tagged=ago(60))]
    held = contents.names()
    now, weekend = NOW.timestamp(), 58 * 3600
    contents.uptime = Uptime("boot", 1e6, 9e6, 0.0, [Point(0, 0), Point(now - weekend, 9e6 - 1800), Point(now, 9e6)])
    run(config(prune_images_after_days=1))
    assert contents.names() == held
    contents.uptime = up_for(2400)
    run(config(prune_images_after_days=1))
    assert contents.names() == set()


def test_nothing_goes_of_which_nobody_knows_how_long_the_host_was_up(contents: FakeContents) -> None:
    contents.uptime = up_for(47)
    contents.cache = [record("old", 900), record("never", 900, LastUsedAt=None)]
    contents.containers = [container("old-container", "i", finished=ago(700))]
    run()
    assert contents.names() == {"old", "never", "old-container"}
