"""Examine a host with NVIDIA GPUs. Without a GPU or a driver the tests are skipped, and give the reason."""

from __future__ import annotations

import pytest

from tasks.nvidia import REFRESH
from tasks.support.package_names import TOOLKIT as TOOLKIT_PACKAGES
from tests.verify.conftest import Target

_FIRST_WITH_CDI = 25  # Docker's major version


def has_driver(target: Target) -> bool:
    return not target.fails("driver")


def wanted(target: Target) -> bool:
    settings = target.settings
    return settings.nvidia is True or (settings.nvidia == "auto" and bool(target.output("GPUs")) and has_driver(target))


@pytest.fixture
def gpu_host(target: Target) -> Target:
    """A host that should have NVIDIA's container toolkit."""
    if not wanted(target):
        pytest.skip(f"nvidia = {target.settings.nvidia!r} in the settings, and no NVIDIA GPU with a driver on the host")
    return target


@pytest.fixture
def managed(gpu_host: Target) -> Target:
    """Such a host whose toolkit this project has installed."""
    if gpu_host.settings.nvidia == "auto" and not gpu_host.fails("toolkit of others"):
        pytest.skip("the toolkit was there before this project, and is kept as it is")
    return gpu_host


@pytest.fixture
def driven(gpu_host: Target) -> Target:
    """Such a host with a driver."""
    if not has_driver(gpu_host):
        pytest.skip("no NVIDIA driver on the host")
    return gpu_host


@pytest.fixture
def gpu(driven: Target) -> Target:
    """Such a host with a GPU that containers can use."""
    if driven.fails("first GPU"):
        pytest.skip("no GPU: there is no /dev/nvidia0 on the host")
    return driven


def test_toolkit_is_at_the_version_of_the_settings(managed: Target) -> None:
    installed = managed.output("versions of the toolkit").split()
    assert len(installed) == len(TOOLKIT_PACKAGES)
    assert len(set(installed)) == 1, installed
    # The setting may be the beginning of a version.
    upstream = installed[0].split(":")[-1].replace("-", ".")
    assert f"{upstream}.".startswith(f"{managed.settings.nvidia_version.replace('-', '.')}."), installed[0]


def test_toolkit_stays_at_its_version_whatever_apt_offers(managed: Target) -> None:
    planned = managed.output("plan of apt").splitlines()
    assert not [line for line in planned if line.startswith(tuple(f"Inst {name} " for name in TOOLKIT_PACKAGES))]


def test_nvidias_runtime_is_known_to_docker(gpu_host: Target) -> None:
    assert gpu_host.docker["Runtimes"]["nvidia"]["path"] == "nvidia-container-runtime"
    if gpu_host.settings.nvidia_default_runtime:
        assert gpu_host.docker["DefaultRuntime"] == "nvidia"


def test_container_runs_under_nvidias_runtime(gpu_host: Target, image: str) -> None:
    assert gpu_host.run(f"docker run --rm --network none --runtime nvidia {image} sh -c 'echo it runs'") == "it runs"


@pytest.mark.parametrize("unit", REFRESH)
def test_unit_that_keeps_cdi_devices_up_to_date_is_enabled(managed: Target, unit: str) -> None:
    assert managed.output(f"{unit} is enabled") == "enabled"


def test_cdi_device_is_listed(driven: Target) -> None:
    assert "nvidia.com/gpu=all" in driven.output("CDI devices").split()
    if "DiscoveredDevices" in driven.docker:  # from Docker 28.2 on
        assert "nvidia.com/gpu=all" in [device["ID"] for device in driven.docker["DiscoveredDevices"] or ()]


def test_container_gets_a_cdi_device(driven: Target, image: str) -> None:
    version = driven.docker["ServerVersion"]
    if int(version.split(".")[0]) < _FIRST_WITH_CDI:
        pytest.skip(f"Docker {version} has no CDI")
    run = f"docker run --rm --network none --device nvidia.com/gpu=all {image} sh -c 'echo it runs'"
    assert driven.run(run) == "it runs"


def test_nvidia_smi_in_a_container_sees_the_gpus_of_the_host(gpu: Target, image: str) -> None:
    listed = "nvidia-smi --list-gpus"
    assert gpu.run(f"docker run --rm --network none --gpus all {image} {listed}") == gpu.run(listed)


def test_container_has_a_cuda_device(gpu: Target, image: str) -> None:
    search = (
        "test -c /dev/nvidia0 && test -c /dev/nvidia-uvm && "
        "for library in /usr/lib/*/libcuda.so.1 /usr/lib64/libcuda.so.1; do [ ! -e $library ] || echo $library; done"
    )
    assert gpu.run(f"docker run --rm --network none --gpus all {image} sh -c '{search}'"), "no libcuda.so.1"


def test_host_without_gpus_has_no_toolkit_of_ours(target: Target) -> None:
    if wanted(target):
        pytest.skip("the host has NVIDIA GPUs")
    if target.settings.nvidia == "auto" and target.output("GPUs"):
        pytest.skip("the host has NVIDIA GPUs, whose driver may come back")
    assert target.fails("files of the toolkit")
    if target.fails("toolkit"):  # not the toolkit that an image came with
        assert "nvidia" not in target.docker["Runtimes"].keys() - target.settings.daemon_json.get("runtimes", {}).keys()
