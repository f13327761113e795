"""What our units promise: each line here is one that a host has come to harm without, or would."""

from __future__ import annotations

import pytest

from tasks import fail_closed
from tasks.support.files import render, verbatim
from tasks.support.paths import DROP_INS, STORES

from .example_hosts import settings


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


GUARD = lines(render("docker-guard.service.j2", program="digest"))
TIMER = lines(render("docker-prune.timer.j2", time="03:00", spread=15))
PRUNE = lines(verbatim("docker-prune.service"))
ALERT = lines(verbatim("bulkhead-alert.service"))


@pytest.mark.parametrize(
    ("unit", "line"),
    [
        # The guard comes back whatever ends it, and at once.
        (GUARD, "Restart=always"),
        (GUARD, "RestartSec=1"),
        (GUARD, "StartLimitIntervalSec=0"),
        (GUARD, "Type=notify"),
        (GUARD, "WatchdogSec=30"),
        # An LVM command that waits for a dead device keeps no new guard from starting.
        (GUARD, "KillMode=process"),
        (GUARD, "TimeoutStopSec=10"),
        # A build that takes all of the memory or of the processors does not take the guard with it.
        (GUARD, "OOMScoreAdjust=-900"),
        (GUARD, "OOMPolicy=continue"),
        (GUARD, "Nice=-10"),
        (GUARD, "UMask=0077"),
        (GUARD, "NoNewPrivileges=yes"),
        (GUARD, "RestrictAddressFamilies=AF_UNIX AF_NETLINK"),
        (GUARD, "WantedBy=multi-user.target"),
        # A host that was off at night prunes when it is up again.
        (TIMER, "Persistent=true"),
        (TIMER, "OnCalendar=*-*-* 03:00:00"),
        (TIMER, "RandomizedDelaySec=15min"),
        (TIMER, "AccuracySec=1s"),
        (TIMER, "WantedBy=timers.target"),
        (PRUNE, "After=docker.service bulkhead-recover.service"),
        (PRUNE, "ExecCondition=systemctl is-active --quiet docker.service"),
        (PRUNE, "Type=exec"),
        (PRUNE, "RuntimeMaxSec=8h"),
        (ALERT, "Type=oneshot"),
        (ALERT, "TimeoutStartSec=30min"),
    ],
)
def test_unit_has_the_line(unit: list[str], line: str) -> None:
    assert line in unit


def test_docker_and_containerd_wait_for_all_three_mounts() -> None:
    wanted = settings(volume_mount="/srv/images")
    drop_ins = fail_closed.drop_ins(wanted)
    assert drop_ins.keys() == set(DROP_INS.values())
    for content in drop_ins.values():
        section, required, *asserted = lines(content)
        assert section == "[Unit]"
        assert required == "RequiresMountsFor=/srv/images /var/lib/docker /var/lib/containerd"
        assert len(asserted) == 8


def test_docker_and_containerd_start_after_the_stores_that_fstab_has_and_need_no_others() -> None:
    drop_ins = fail_closed.ordering()
    assert drop_ins.keys() == set(DROP_INS.values())
    expected = ("[Unit]", f"RequiresMountsFor={' '.join(STORES.values())}")
    assert {tuple(lines(content)) for content in drop_ins.values()} == {expected}
