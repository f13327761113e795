"""Which hosts get NVIDIA's container toolkit, keep it or lose it, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.support.paths import NVIDIA_SOURCE

from ..example_hosts import converged, our_docker_ce_host, settings, shared_vg
from .verdicts import assert_says, finding, plan_of

GPU: dict[str, Any] = {"gpus": ("0000:01:00.0",)}
DRIVER: dict[str, Any] = GPU | {"gpu_driver": "loaded"}
NOT_LOADED: dict[str, Any] = GPU | {"gpu_driver": "installed"}
TOOLKIT: dict[str, Any] = {"toolkit_is_ours": True}
PREINSTALLED: dict[str, Any] = {
    "toolkit": "/usr/bin/nvidia-container-runtime",
    "toolkit_sources": ("/etc/apt/sources.list.d/nvidia-container-toolkit.list",),
}
IN_USE: dict[str, Any] = {"daemon_json_applied": '{"runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}'}

NO_DRIVER = (
    "0000:01:00.0: an NVIDIA GPU, and no driver: the container toolkit is not installed. Install NVIDIA's driver and run again "
    "(docs/gpu.md)"
)
NOT_USED = (
    "0000:01:00.0: an NVIDIA GPU, and no driver: the container toolkit stays as it is, and Docker does not use it. Install "
    "NVIDIA's driver and run again (docs/gpu.md)"
)
DRIVER_LOST = (
    "0000:01:00.0: an NVIDIA GPU, and no driver: the container toolkit is installed, but containers with a GPU fail "
    "until a driver is"
)
UNLOADED = "0000:01:00.0: an NVIDIA GPU, whose driver is installed and not loaded: containers with a GPU fail until it is loaded (a reboot?)"
FORCED = (
    "nvidia = True, and no driver: the container toolkit is installed, but containers with a GPU fail until a driver is"
)

KEEPS, LEAVES, NEITHER = (True, False), (False, True), (False, False)


@pytest.mark.parametrize(
    ("wanted", "state", "becomes", "warnings"),
    [
        ("auto", {}, NEITHER, ()),
        ("auto", {"gpu_driver": "loaded"}, NEITHER, ()),
        ("auto", {"gpu_driver": "installed"}, NEITHER, ()),
        ("auto", NOT_LOADED, KEEPS, (UNLOADED,)),
        ("auto", NOT_LOADED | TOOLKIT, KEEPS, (UNLOADED,)),
        (True, NOT_LOADED, KEEPS, (UNLOADED,)),
        (False, NOT_LOADED, NEITHER, ()),
        ("auto", GPU, NEITHER, (NO_DRIVER,)),
        ("auto", DRIVER, KEEPS, ()),
        ("auto", DRIVER | TOOLKIT, KEEPS, ()),
        ("auto", GPU | TOOLKIT, KEEPS, (DRIVER_LOST,)),
        ("auto", TOOLKIT, LEAVES, ()),
        ("auto", PREINSTALLED, NEITHER, ()),
        ("auto", GPU | PREINSTALLED, NEITHER, (NOT_USED,)),
        ("auto", GPU | PREINSTALLED | IN_USE, KEEPS, (DRIVER_LOST,)),
        ("auto", GPU | IN_USE, NEITHER, (NO_DRIVER,)),
        ("auto", PREINSTALLED | IN_USE, NEITHER, ()),
        (False, DRIVER | PREINSTALLED, NEITHER, ()),
        (True, {}, KEEPS, (FORCED,)),
        (True, GPU, KEEPS, (DRIVER_LOST,)),
        (True, DRIVER, KEEPS, ()),
        (False, DRIVER, NEITHER, ()),
        (False, GPU, NEITHER, ()),
        (False, DRIVER | TOOLKIT, LEAVES, ()),
        (False, GPU | TOOLKIT, LEAVES, ()),
    ],
    ids=str,
)
def test_toolkit_is_for_a_gpu_with_its_driver_and_stays_when_the_driver_is_lost(
    wanted: object, state: dict[str, Any], becomes: tuple[bool, bool], warnings: tuple[str, ...]
) -> None:
    plan = plan_of(our_docker_ce_host(**state), shared_vg(), settings(nvidia=wanted), warnings=warnings)
    assert (plan.nvidia, plan.removes_nvidia) == becomes


def test_entries_of_others_for_the_toolkit_are_refused_by_name() -> None:
    files = ("/etc/apt/sources.list.d/cuda.list", "/etc/apt/sources.list.d/nvidia.list")
    found = finding(our_docker_ce_host(**DRIVER, toolkit_sources=files), shared_vg())
    assert_says(
        found,
        found_has=f"NVIDIA's container toolkit is listed in {files[0]}, {files[1]}",
        needed=f"one entry for it, {NVIDIA_SOURCE}",
        action=f"remove {files[0]}, {files[1]}, or set nvidia = False",
    )


def test_toolkit_of_an_image_is_kept_with_its_apt_entry() -> None:
    plan = plan_of(our_docker_ce_host(**DRIVER | PREINSTALLED), shared_vg())
    assert (plan.nvidia, plan.keeps_toolkit, plan.removes_nvidia) == (True, True, False)
    assert not plan_of(our_docker_ce_host(**DRIVER), shared_vg()).keeps_toolkit
    # Ours stays ours: its programs are there too.
    ours = our_docker_ce_host(**DRIVER | TOOLKIT, toolkit="/usr/bin/nvidia-container-runtime")
    assert not plan_of(ours, shared_vg()).keeps_toolkit


def test_toolkit_of_an_image_is_ours_where_the_setting_says_so() -> None:
    without_entry = {"toolkit": PREINSTALLED["toolkit"]}
    assert not plan_of(our_docker_ce_host(**DRIVER | without_entry), shared_vg(), settings(nvidia=True)).keeps_toolkit
    found = finding(our_docker_ce_host(**DRIVER | PREINSTALLED), shared_vg(), settings(nvidia=True))
    assert_says(
        found,
        found_has="nvidia-container-toolkit.list",
        needed="one entry for it",
        action='or set nvidia = "auto", which',
    )


@pytest.mark.parametrize("wanted", ["auto", False])
def test_entries_of_others_are_their_affair_where_the_toolkit_is_not_ours(wanted: object) -> None:
    state = our_docker_ce_host(gpu_driver="loaded", toolkit_sources=("/etc/apt/sources.list.d/nvidia.list",))
    assert plan_of(state, shared_vg(), settings(nvidia=wanted)).nvidia is False


@pytest.mark.parametrize("wanted", ["auto", False])
def test_toolkit_is_not_taken_from_containers_that_need_it(wanted: object) -> None:
    state = our_docker_ce_host(**TOOLKIT, nvidia_containers=("train", "infer"))
    found = finding(state, shared_vg(), settings(nvidia=wanted))
    assert_says(
        found,
        found_has="remove NVIDIA's container toolkit, and containers need it: train, infer",
        needed="they would no longer start",
        action="nvidia = True",
    )


def test_toolkit_stays_while_docker_does_not_say_who_needs_it() -> None:
    state = our_docker_ce_host(**TOOLKIT, docker_hangs=True)
    whole = converged(shared_vg(), plan_of(our_docker_ce_host(), shared_vg()))
    found = finding(state, whole, settings(nvidia=False))
    assert_says(
        found,
        found_has="does not say which containers need it",
        needed="Docker's answer",
        action="set nvidia = True",
    )


def test_containers_are_no_obstacle_where_the_toolkit_stays_or_is_not_ours() -> None:
    named: dict[str, Any] = {"nvidia_containers": ("train",)}
    assert plan_of(our_docker_ce_host(**DRIVER | TOOLKIT | named), shared_vg()).nvidia
    assert not plan_of(our_docker_ce_host(**named), shared_vg(), settings(nvidia=False)).removes_nvidia
