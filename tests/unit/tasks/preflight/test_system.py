"""The login, the run lock and the system: which ones are refused."""

from __future__ import annotations

import pytest

from pyinfra_lvm.model import Storage
from tasks.preflight.examine import examine
from tasks.preflight.host import HostState

from ..example_hosts import bare_host, settings, shared_vg
from .verdicts import assert_says, finding, plan_of


def test_another_release_passes_with_a_warning_when_allowed() -> None:
    warning = "this project is not tested on debian sid (allow_unsupported_release)"
    sid = bare_host(os_version="", os_codename="sid")
    plan_of(sid, shared_vg(), settings(allow_unsupported_release=True), warnings=(warning,))


def test_without_root_nothing_else_is_judged() -> None:
    result = examine(settings(), HostState(1000, "", "", "", "", systemd=False), Storage())
    (only,) = result.findings
    assert_says(only, found_has="not root", needed="through sudo", action='set "_sudo": True')


def test_another_run_is_named() -> None:
    result = examine(settings(), bare_host(), shared_vg(), "anna on laptop (process 7), since 2026-11-23 21:00:00 UTC")
    assert result.plan is None
    (only,) = result.findings
    assert_says(only, found_has="anna on laptop", needed="one run at a time", action="wait until it has ended")


@pytest.mark.parametrize(
    ("os_id", "version", "shown"),
    [
        ("debian", "11", "debian 11"),
        ("ubuntu", "25.10", "ubuntu 25.10"),
        ("fedora", "43", "fedora 43"),
        ("", "", "unknown"),
    ],
)
def test_unsupported_release_is_refused(os_id: str, version: str, shown: str) -> None:
    found = finding(bare_host(os_id=os_id, os_version=version, os_codename=""), shared_vg())
    assert_says(found, found_has=shown, needed="Ubuntu 22.04, 24.04, 26.04", action="allow_unsupported_release = True")


def test_another_distribution_is_refused_whatever_the_settings() -> None:
    found = finding(bare_host(os_id="fedora"), shared_vg(), settings(allow_unsupported_release=True))
    assert "fedora" in found.found


def test_unsupported_architecture_is_refused() -> None:
    found = finding(bare_host(architecture="riscv64"), shared_vg())
    assert_says(found, found_has="riscv64", needed="amd64 or arm64", action="another machine")


def test_host_without_systemd_is_refused() -> None:
    found = finding(bare_host(systemd=False), shared_vg())
    assert_says(found, found_has="not PID 1", needed="systemd", action="boot the host with systemd")
