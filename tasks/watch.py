"""After this, a host tells before it is full: `check-disk` from cron, alerts through Apprise, a bound on the journal."""

from __future__ import annotations

from pyinfra.api.deploy import deploy

from settings import Settings
from tasks import files, units
from tasks.files import File, render, verbatim
from tasks.paths import ALERT_SERVICE, CHECK_CRON, CHECK_DISK, JOURNALD_DROP_IN, RECEIVERS, UNITS


def receivers(settings: Settings) -> File | None:
    """Apprise's configuration, with a tag for each receiver; it holds secrets."""
    lines = [f"{name}={address}\n" for name, address in settings.alert_receivers.items()]
    return File("".join(lines), mode="0600") if lines else None


def journald(settings: Settings) -> File | None:
    return File(render("journald.conf.j2", limit=settings.journal_max_use)) if settings.journal_max_use else None


@deploy("Watch")
def install(settings: Settings) -> None:
    files.files(name="The receivers of alerts, for root alone", wanted={RECEIVERS: receivers(settings)})
    units.unit_files(
        name=f"{ALERT_SERVICE} sends alerts",
        contents={UNITS[ALERT_SERVICE]: verbatim(ALERT_SERVICE)},
        units=[ALERT_SERVICE],
    )
    cron = render("check-disk.cron.j2", schedule=settings.check_schedule, threshold=settings.check_threshold)
    files.files(
        name=f"{CHECK_DISK}, and cron runs it",
        wanted={CHECK_DISK: File(verbatim("check-disk"), mode="0755"), CHECK_CRON: File(cron)},
    )
    files.files(
        name="The system's journal is bounded",
        wanted={JOURNALD_DROP_IN: journald(settings)},
        then="systemctl restart systemd-journald",
    )


def removed() -> None:
    """Nothing of it is left on the host."""
    units.unit_files_removed(name=f"{ALERT_SERVICE} is gone", paths=[UNITS[ALERT_SERVICE]], units=[ALERT_SERVICE])
    files.files(
        name="check-disk, its cron and the receivers are gone",
        wanted=dict.fromkeys([RECEIVERS, CHECK_CRON, CHECK_DISK]),
    )
    files.files(
        name="The system's journal has its own bounds again",
        wanted={JOURNALD_DROP_IN: None},
        then="systemctl restart systemd-journald",
    )
