"""NVIDIA's container toolkit: brought at one version, kept up to date with the driver, and taken away again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks import nvidia
from tasks.nvidia import REFRESH, Toolkit, ToolkitState
from tasks.support.files import render
from tasks.support.gpu import GpuContainers
from tasks.support.package_names import TOOLKIT as TOOLKIT_PACKAGES
from tasks.support.packages import Offer, Pinned
from tasks.support.paths import NVIDIA_BROUGHT, NVIDIA_KEY, NVIDIA_PIN, NVIDIA_SOURCE

from .example_hosts import our_docker_ce_host, settings, shared_vg
from .operations import OperationHost, commands, contents_sent, performed, shell, stand_in
from .preflight.verdicts import plan_of

PINNED = Pinned(TOOLKIT_PACKAGES, "1.20.1", NVIDIA_PIN, "nvidia_version")
ALL_THERE = dict.fromkeys(TOOLKIT_PACKAGES, "1.20.1-1")


def state(installed: dict[str, str] = ALL_THERE, pin: str = PINNED.pin, **changes: Any) -> ToolkitState:
    return ToolkitState(Offer(installed, frozenset(), pin), **changes)


def host(found: ToolkitState) -> OperationHost:
    return OperationHost({Toolkit: found, GpuContainers: ["train"]})


def kept(on: OperationHost) -> list[str]:
    return commands(nvidia.toolkit, on, pinned=PINNED, lock_timeout=600)


def brought(on: OperationHost) -> str:
    """What is noted to be ours."""
    done = performed(nvidia.toolkit, on, pinned=PINNED, lock_timeout=600)
    (noted,) = [command for command in done if NVIDIA_BROUGHT in str(command)]
    (content,) = contents_sent(noted)
    return content


def test_toolkit_that_is_there_at_its_version_is_left_alone() -> None:
    on = host(state())
    assert kept(on) == []
    assert on.logged == []


def test_fresh_toolkit_is_noted_installed_at_its_version_and_pinned_in_this_order() -> None:
    on = host(state({}, pin=""))
    update, note, install, pin, enable = kept(on)
    assert "update" in update
    assert NVIDIA_BROUGHT in note
    assert "apt-cache policy" in install
    assert "nvidia_version" in install
    assert install.endswith(f"install {' '.join(TOOLKIT_PACKAGES)}\n")
    assert NVIDIA_PIN in pin
    assert "systemctl enable" in enable
    (warning,) = on.logged
    assert "the toolkit's packages reload systemd while containers with GPUs run: train" in warning
    assert on.events.index(warning) == on.events.index(install) - 1


def test_one_package_of_another_version_takes_all_four_along() -> None:
    *_, install, _ = kept(host(state(ALL_THERE | {TOOLKIT_PACKAGES[3]: "1.19.0-1"})))
    assert install.endswith(f"install {' '.join(TOOLKIT_PACKAGES)}\n")


def test_pin_alone_is_no_reason_to_install_anything() -> None:
    (pin,) = kept(host(state(pin="an older one\n")))
    assert NVIDIA_PIN in pin


def test_what_somebody_else_has_installed_is_not_noted_as_ours() -> None:
    assert brought(host(state({}))) == "".join(f"{name}\n" for name in TOOLKIT_PACKAGES)
    theirs = {TOOLKIT_PACKAGES[3]: "1.17.0-1"}
    assert brought(host(state(theirs))) == "".join(f"{name}\n" for name in TOOLKIT_PACKAGES[:3])


def test_what_a_cut_run_has_installed_is_ours_all_the_same() -> None:
    on = host(state({TOOLKIT_PACKAGES[3]: "1.20.1-1"}, brought=TOOLKIT_PACKAGES))
    assert brought(on) == "".join(f"{name}\n" for name in TOOLKIT_PACKAGES)


def test_units_that_a_package_has_left_disabled_are_enabled() -> None:
    (enable,) = kept(host(state(disabled=(REFRESH[1],))))
    assert "systemctl enable" in enable


@pytest.mark.parametrize(
    ("answer", "enabled"), [("disabled", ["enable", "start"]), ("enabled", ["enable", "start"]), ("masked", [])]
)
def test_unit_that_somebody_has_masked_stays_masked(tmp_path: Path, answer: str, enabled: list[str]) -> None:
    stand_in(tmp_path, "systemctl", f'[ $1 != is-enabled ] && echo "$*" >>{tmp_path}/done || echo {answer}')
    (enable,) = kept(host(state(disabled=(REFRESH[0],))))
    assert shell(enable, tmp_path).returncode == 0
    done = tmp_path / "done"
    lines = done.read_text().splitlines() if done.exists() else []
    assert [line.split() for line in lines] == [
        [verb, *options, unit]
        for unit in REFRESH
        for verb, *options in (("enable", "--quiet", "--no-reload"), ("start", "--no-block"))
        if verb in enabled
    ]


def test_unit_that_cannot_be_enabled_fails_the_run(tmp_path: Path) -> None:
    stand_in(tmp_path, "systemctl", "[ $1 != enable ]")
    (enable,) = kept(host(state(disabled=(REFRESH[0],))))
    assert shell(enable, tmp_path).returncode != 0


# -- leaving


def removed(found: ToolkitState) -> list[str]:
    return commands(nvidia.removed, host(found), lock_timeout=600)


def test_all_that_was_ours_goes_and_the_repositorys_entry_last() -> None:
    on = host(state(brought=TOOLKIT_PACKAGES))
    disable, purge, leftovers, files, update = commands(nvidia.removed, on, lock_timeout=600)
    assert disable.startswith(f"systemctl disable --quiet --no-reload --now {' '.join(REFRESH)} ")
    assert all(name in purge.partition("-y purge $names")[0] for name in TOOLKIT_PACKAGES)
    assert "/etc/nvidia-container-runtime/config.toml /run/cdi/nvidia.yaml" in leftovers
    assert files == f"rm -f {NVIDIA_PIN} {NVIDIA_BROUGHT} {NVIDIA_KEY} && rm -f {NVIDIA_SOURCE}"
    assert "update" in update
    assert "packages reload systemd" in on.events[0]


def test_packages_of_somebody_else_stay_with_what_they_have_made() -> None:
    files, _ = removed(state(brought=()))
    assert files.startswith("rm -f ")
    _, purge, files, _ = removed(state(brought=(TOOLKIT_PACKAGES[0],)))
    assert TOOLKIT_PACKAGES[0] in purge
    assert not any(name in purge for name in TOOLKIT_PACKAGES[1:])
    assert files.endswith(f"rm -f {NVIDIA_SOURCE}")


# -- the fact


@pytest.mark.parametrize("answer", ["disabled", "enabled", "masked", ""])
def test_only_units_that_nobody_has_decided_on_are_taken_for_disabled(tmp_path: Path, answer: str) -> None:
    stand_in(tmp_path, "systemctl", f'[ "$1 $2" = "is-enabled {REFRESH[0]}" ] && echo {answer}')
    stand_in(tmp_path, "apt-cache", "")  # the real one takes its time
    (tmp_path / "brought").write_text(f"{TOOLKIT_PACKAGES[0]}\n{TOOLKIT_PACKAGES[1]}\n")
    command = Toolkit().command().replace(NVIDIA_BROUGHT, f"{tmp_path}/brought")
    found = Toolkit().process(shell(command, tmp_path).stdout.splitlines())
    assert found.disabled == ((REFRESH[0],) if answer == "disabled" else ())
    assert found.brought == TOOLKIT_PACKAGES[:2]


def test_entry_names_the_flat_repository_and_its_key() -> None:
    entry = render("nvidia.sources.j2", repository="https://a/libnvidia-container", key=NVIDIA_KEY).splitlines()
    assert entry[1:] == [
        "Types: deb",
        "URIs: https://a/libnvidia-container/stable/deb/$(ARCH)",
        "Suites: /",
        f"Signed-By: {NVIDIA_KEY}",
    ]


# -- a toolkit that was there before


def test_toolkit_that_is_kept_gets_no_repository_and_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[str] = []
    monkeypatch.setattr(nvidia, "repository", lambda **_: added.append("repository"))
    monkeypatch.setattr(nvidia, "toolkit", lambda **_: added.append("toolkit"))
    plan = plan_of(our_docker_ce_host(gpus=("0000:01:00.0",), gpu_driver="loaded"), shared_vg())
    for step in (nvidia.add_repository, nvidia.install):
        step._inner(settings(), replace(plan, keeps_toolkit=True))  # type: ignore[attr-defined]
    assert added == []
    for step in (nvidia.add_repository, nvidia.install):
        step._inner(settings(), plan)  # type: ignore[attr-defined]
    assert added == ["repository", "toolkit"]
