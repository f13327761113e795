"""After this, cron runs `check-disk`, alerts go out through Apprise, and the system's journal has a size limit."""

from __future__ import annotations

from pyinfra.api import FactBase
from pyinfra.api.deploy import deploy

from bulkhead.names import ALERT_SERVICE, METRICS, RECEIVERS
from pyinfra_lvm.collection import fact
from settings.model import Settings
from tasks.support import files, units
from tasks.support.files import File, render, verbatim
from tasks.support.paths import CHECK_CRON, CHECK_DISK, JOURNALD, JOURNALD_DROP_IN, UNITS


def receivers(settings: Settings) -> File | None:
    """Return Apprise's configuration, with a tag for each receiver; None without receivers. It holds secrets."""
    lines = [f"{name}={address}\n" for name, address in settings.alert_receivers.items()]
    return File("".join(lines), mode="0600") if lines else None


# systemd shows every file that counts, each after a comment with its path: in /etc, /run and /usr/lib, with drop-ins.
# Where it cannot, the limit is somebody else's: a limit of ours could delete entries that they want to keep.
_JOURNAL_LIMITS = rf"""
{{ systemd-analyze cat-config systemd/journald.conf || printf '[Journal]\nSystemMaxUse=unknown\n'; }} | awk '
    /^# \/[^ ]*\.conf$/ {{ file = $2; next }}
    /^[ \t]*\[/ {{ section = $1 }}
    section == "[Journal]" && /^[ \t]*System(MaxUse|KeepFree)[ \t]*=[ \t]*[^ \t]/ && file != "{JOURNALD_DROP_IN}" {{
        print file ":" $0 }}'
"""


class JournalLimits(FactBase[list[str]]):
    """Return the size limits that others have set for the system's journal."""

    def command(self) -> str:
        return _JOURNAL_LIMITS.strip()

    def process(self, output: list[str]) -> list[str]:
        return output

    @staticmethod
    def default() -> list[str]:
        return []


def journald(settings: Settings, others: list[str]) -> File | None:
    """Return the drop-in with our limit; None where the settings want none or somebody else has set one."""
    limit = settings.journal_max_use
    return File(render("journald.conf.j2", limit=limit)) if limit and not others else None


@deploy("Watch")
def install(settings: Settings) -> None:
    """Install the check, its cron job, the alerts, and the limit on the journal."""
    units.unit_files(
        name=f"{ALERT_SERVICE} sends alerts",
        contents={UNITS[ALERT_SERVICE]: verbatim(ALERT_SERVICE)},
        units=[ALERT_SERVICE],
    )
    cron = render("check-disk.cron.j2", interval=settings.check_interval, threshold=settings.check_threshold)
    files.files(
        name=f"{CHECK_DISK}, its cron job, and the receivers of its alerts",
        wanted={
            CHECK_DISK: File(verbatim("check-disk"), mode="0755"),
            CHECK_CRON: File(cron),
            RECEIVERS: receivers(settings),
        },
    )
    files.files(
        name="The system's journal has a size limit",
        wanted={JOURNALD_DROP_IN: journald(settings, fact(JournalLimits))},
        service=JOURNALD,
    )


def removed(settings: Settings) -> None:
    """Remove all of it from the host."""
    units.unit_files_removed(name=f"{ALERT_SERVICE} is removed", paths=[UNITS[ALERT_SERVICE]], units=[ALERT_SERVICE])
    files.files(
        name="check-disk, its cron job, its metrics and the receivers are removed",
        wanted=dict.fromkeys(
            [
                *(RECEIVERS, CHECK_CRON, CHECK_DISK),
                *([f"{settings.metrics_directory}/{METRICS}"] if settings.metrics_directory else []),
            ]
        ),
    )
    files.files(
        name="The system's journal has its own limits again",
        wanted={JOURNALD_DROP_IN: None},
        service=JOURNALD,
    )
