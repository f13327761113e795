"""What all moves share."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from bulkhead.errors import Failed
from bulkhead.move import rsync
from bulkhead.move.move import refuse_too_little_room

GIB = 2**30


def test_copy_that_an_earlier_move_has_begun_counts_as_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=3, f_frsize=GIB))
    monkeypatch.setattr(rsync, "size_of", lambda _: 2 * GIB)
    refuse_too_little_room("/srv/docker-volume", 5 * GIB, ["/srv/docker-volume/docker.moving"])
    with pytest.raises(Failed, match=r"^the data takes 5.0 GiB, and its volume has 3.0 GiB for it. Remove some$"):
        refuse_too_little_room("/srv/docker-volume", 5 * GIB, [], "Remove some")
