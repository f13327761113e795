"""The limit on the system's journal: a limit of the host's own holds in every form that journald reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.support.paths import JOURNALD_DROP_IN
from tasks.watch import JournalLimits, journald

from .example_hosts import settings
from .operations import shell, stand_in

# As `systemd-analyze cat-config systemd/journald.conf` of Debian 12 and 13 shows it, without most of the comments.
DEBIAN = """\
# /etc/systemd/journald.conf
#  This file is part of systemd.
#
# See journald.conf(5) for details.

[Journal]
#Storage=auto
#SystemMaxUse=
#SystemKeepFree=
#RuntimeMaxUse=

# /usr/lib/systemd/journald.conf.d/syslog.conf
# Undo upstream commit 46b131574fdd7d77c15a0919ca9010cad7aa6ac7

[Journal]
ForwardToSyslog=yes
"""
OURS = f"\n# {JOURNALD_DROP_IN}\n# Written by docker-bulkhead.\n[Journal]\nSystemMaxUse=500M\n"


def limits_on(directory: Path, configuration: str, code: int = 0) -> list[str]:
    """The limits of others that the fact finds, where systemd shows this configuration."""
    (directory / "configuration").write_text(configuration)
    stand_in(
        directory,
        "systemd-analyze",
        f'[ "$*" = "cat-config systemd/journald.conf" ] && cat {directory}/configuration; exit {code}',
    )
    return JournalLimits().process(shell(JournalLimits().command(), directory).stdout.splitlines())


@pytest.mark.parametrize(
    "configuration", [DEBIAN, DEBIAN + OURS, OURS + DEBIAN, ""], ids=["Debian", "ours", "first", "none"]
)
def test_host_without_a_limit_of_its_own_gets_ours(tmp_path: Path, configuration: str) -> None:
    assert limits_on(tmp_path, configuration) == []
    assert journald(settings(), []) is not None


@pytest.mark.parametrize(
    "path",
    [
        "/etc/systemd/journald.conf",
        "/etc/systemd/journald.conf.d/99-ours.conf",
        "/run/systemd/journald.conf.d/10-cloud.conf",
        "/usr/lib/systemd/journald.conf.d/20-image.conf",
    ],
)
@pytest.mark.parametrize(
    "line",
    ["SystemMaxUse=4G", "SystemMaxUse = 4G", "  SystemMaxUse\t=\t4G  ", "SystemKeepFree=10G", "SystemMaxUse=1.5T"],
)
def test_limit_of_the_hosts_own_holds_in_every_form_and_place(tmp_path: Path, path: str, line: str) -> None:
    found = limits_on(tmp_path, f"{DEBIAN}\n# {path}\n[Journal]\n{line}\n{OURS}")
    assert found == [f"{path}:{line}"]
    assert journald(settings(), found) is None


@pytest.mark.parametrize(
    "text",
    [
        "[Journal]\n#SystemMaxUse=4G\n",
        "[Journal]\n; SystemMaxUse=4G\n",
        "[Journal]\nSystemMaxUse=\n",
        "[Other]\nSystemMaxUse=4G\n",
    ],
    ids=["comment", "semicolon", "empty", "another section"],
)
def test_line_that_journald_does_not_read_is_no_limit(tmp_path: Path, text: str) -> None:
    assert limits_on(tmp_path, f"{DEBIAN}\n# /etc/systemd/journald.conf.d/90.conf\n{text}") == []


def test_limit_that_cannot_be_read_is_somebody_elses(tmp_path: Path) -> None:
    assert limits_on(tmp_path, "", code=1) == [":SystemMaxUse=unknown"]
