"""Values that are kept for a user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bulkhead import personal_state

from .bill.conftest import home

__all__ = ["home"]


def test_damaged_values_count_as_none_and_stay_beside_the_new_ones(home: Path) -> None:
    path = home / "state/bulkhead/bills.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"bills": [')
    assert personal_state.load("bills") == {}
    personal_state.save("bills", {"bills": []})
    assert path.with_name("bills.json.damaged").read_text() == '{"bills": ['


def test_values_that_cannot_be_read_are_not_replaced(home: Path) -> None:
    path = home / "state/bulkhead/bills.json"
    path.parent.mkdir(parents=True)
    path.symlink_to(path)  # as with root's file after `sudo -E`; the tests may run as root, who can read everything
    assert personal_state.load("bills") == {}
    with pytest.raises(OSError, match="bills"):
        personal_state.save("bills", {"bills": []})
    assert path.is_symlink()


def test_user_without_a_home_keeps_nothing_in_this_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # neither HOME nor an entry in passwd
    assert personal_state.load("bills") == {}
    with pytest.raises(OSError, match="set HOME or XDG_STATE_HOME"):
        personal_state.save("bills", {})
    with pytest.raises(OSError, match="set HOME"), personal_state.locked("bills", 1):
        pass
    assert not (home / "~").exists()
