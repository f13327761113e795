"""Which volumes are removed, and when."""

from __future__ import annotations

from typing import Any

import pytest

from bulkhead.errors import Failed

from ..configs import config
from .contents import (
    GIB,
    FakeContents,
    container,
    image,
    known,
    reclaim,
    record,
    run,
    volume,
)


def anonymous_of(name: str, **host: Any) -> dict[str, Any]:
    """A container, and with it a volume that Docker made for it."""
    mounts = [{"Type": "volume", "Name": "ab" * 32, "Driver": "local"}]
    return container(name, "i", host=host) | {"Mounts": mounts}


def test_volumes_stay_unless_the_settings_say_otherwise(contents: FakeContents) -> None:
    known("volumes", old=60)
    contents.volumes = [volume("old"), volume("named", Labels={})]
    run()
    assert contents.names() == {"old", "named"}
    run(config(prune_anonymous_volumes=True))
    assert contents.names() == {"named"}


def test_only_anonymous_volumes_go_that_no_container_has_had_for_long(
    contents: FakeContents, capsys: pytest.CaptureFixture[str]
) -> None:
    known("volumes", old=60, young=40, had=60, kept=60, nfs=60, plugin=60)
    contents.volumes = [
        volume("old"),
        volume("young"),
        volume("new"),
        volume("had"),
        volume("kept"),
        volume("nfs", Options={"type": "nfs"}),
        volume("plugin", Driver="rexray"),
        volume("named", Labels=None),
        volume("ab" * 32, Labels=None),  # 20.10: made by hand for all that is known
    ]
    contents.containers = [
        container("c", "i", restart="always") | {"Mounts": [{"Type": "volume", "Name": "had"}, {"Type": "bind"}]}
    ]
    run(config(prune_anonymous_volumes=True, prune_keep=("kept",)))
    assert contents.names() == {"c", "young", "new", "had", "kept", "nfs", "plugin", "named", "ab" * 32}
    assert "  volume old (1.0 GiB) removed: unused for 60 h" in capsys.readouterr().out


def test_volume_of_which_nothing_could_be_learnt_stays(contents: FakeContents) -> None:
    known("volumes", old=60)
    contents.volumes = [volume("old")]  # its container was removed just now, for all that this run knows
    contents.refused["GET /networks"] = (500, "plugin not found")
    assert run(config(prune_anonymous_volumes=True)) == 1
    assert contents.names() == {"old"}


@pytest.mark.parametrize(
    ("host", "is_anonymous"),
    [
        ({}, True),
        ({"Binds": ["/srv:/srv"]}, True),
        ({"Binds": [f"{'ab' * 32}:/data:ro"]}, False),
        ({"Mounts": [{"Type": "volume", "Source": "ab" * 32}]}, False),
        ({"VolumesFrom": ["another"]}, False),
    ],
)
def test_volume_without_a_label_is_anonymous_where_its_container_was_seen(
    contents: FakeContents, host: dict[str, Any], is_anonymous: bool
) -> None:
    contents.volumes = [volume("ab" * 32, Labels=None)]
    contents.containers = [anonymous_of("old", **host)]
    run()
    assert contents.containers == []
    assert reclaim(None, volumes=True) == 0
    assert contents.names() == (set() if is_anonymous else {"ab" * 32})


def test_reclaim_removes_volumes_last_and_only_on_request(contents: FakeContents) -> None:
    contents.cache = [record("recent", 1)]
    contents.images = [image("i", "i:1", size=GIB)]
    contents.volumes = [volume("v"), volume("just-made", 0.5), volume("named", Labels={})]
    with pytest.raises(Failed, match=r"at most 12.0 GiB can be had"):
        reclaim(13 * GIB)
    assert reclaim(12 * GIB, volumes=True) == 0
    assert contents.names() == {"v", "just-made", "named"}
    assert reclaim(13 * GIB, volumes=True) == 0
    assert contents.names() == {"just-made", "named"}


def test_reclaim_of_volumes_alone_spares_everything_else(
    contents: FakeContents, capsys: pytest.CaptureFixture[str]
) -> None:
    contents.cache = [record("recent", 1)]
    contents.images = [image("lost")]
    contents.volumes = [volume("v", 24 * 38)]
    assert reclaim(None, volumes=True) == 0
    assert contents.names() == {"recent", "lost"}
    assert "  volume v (1.0 GiB) removed: in no container, made 38 days ago" in capsys.readouterr().out


def test_reclaim_of_volumes_that_docker_cannot_count_fails(contents: FakeContents) -> None:
    contents.volumes = [volume("v")]
    contents.refused["GET /system/df"] = (500, "layer does not exist")
    with pytest.raises(Failed, match=r"Nothing was removed\. Docker did not tell everything: .*layer does not exist"):
        reclaim(None, volumes=True)
    assert contents.names() == {"v"}
