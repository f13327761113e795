"""The limit on the system's journal: a limit of the host's own holds in every form that journald reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyinfra.context import ctx_host

from tasks import watch
from tasks.support.files import File
from tasks.support.paths import JOURNALD_DROP_IN
from tasks.watch import JournalLimits, journald

from .example_hosts import settings
from .operations import OperationHost, shell, stand_in

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


def watched(others: list[str], **changes: object) -> dict[str, Any]:
    """The files that a run wants, by their path; with the service that reads them."""
    wanted: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patched, ctx_host.use(OperationHost({JournalLimits: others})):
        patched.setattr(watch.units, "unit_files", lambda **_: None)
        patched.setattr(
            watch.files,
            "files",
            lambda wanted_=wanted, **given: wanted_.update(
                given["wanted"], **{f"service of {path}": given.get("service", "") for path in given["wanted"]}
            ),
        )
        watch.install._inner(settings(**changes))  # type: ignore[attr-defined]
    return wanted


def test_limit_of_ours_goes_where_the_host_has_one_of_its_own_and_journald_reads_it() -> None:
    ours, others, none = watched([]), watched(["/etc/x:SystemMaxUse=4G"]), watched([], journal_max_use="")
    assert ours[JOURNALD_DROP_IN] == File(
        "# The journal must not fill the root disk. Written by docker-bulkhead (journal_max_use).\n[Journal]\nSystemMaxUse=500M\n"
    )
    assert others[JOURNALD_DROP_IN] is none[JOURNALD_DROP_IN] is None
    assert {run[f"service of {JOURNALD_DROP_IN}"] for run in (ours, others, none)} == {"systemd-journald.service"}


def test_check_has_its_times_and_its_receivers() -> None:
    wanted = watched([], check_interval=5, check_threshold=70, alert_receivers={"ops": "slack://a/b/c"})
    assert wanted["/etc/cron.d/check-disk"].content.endswith("\n*/5 * * * * root check-disk 70 >/dev/null\n")
    assert wanted["/etc/cron.d/check-disk"].mode == "0644", "cron ignores a file that others can write"
    assert wanted["/usr/local/bin/check-disk"].mode == "0755"
    assert wanted["/etc/bulkhead/receivers"] == File("ops=slack://a/b/c\n", mode="0600")
    assert watched([])["/etc/bulkhead/receivers"] is None
