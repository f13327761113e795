"""What systemd says of files of ours and of their units."""

from __future__ import annotations

from tasks.units import SystemdFiles, UnitFiles

SHOWN = """\
Id=docker-prune.service
ActiveState=inactive
UnitFileState=static
NeedDaemonReload=no

Id=docker-prune.timer
ActiveState=active
UnitFileState=enabled
NeedDaemonReload={reload}
file /etc/systemd/system/docker-prune.timer
=[Timer]
=
=OnCalendar=*-*-* 03:00:00"""


def read(reload: str = "no") -> UnitFiles:
    return SystemdFiles().process(SHOWN.format(reload=reload).splitlines())


def test_contents_are_read_line_by_line() -> None:
    assert read().contents == {"/etc/systemd/system/docker-prune.timer": "[Timer]\n\nOnCalendar=*-*-* 03:00:00\n"}


def test_only_what_is_enabled_and_active_is_up() -> None:
    assert read().up == {"docker-prune.timer"}


def test_change_that_systemd_has_not_read_is_seen() -> None:
    assert not read().needs_reload
    assert read(reload="yes").needs_reload
