"""Cases that no other file has: further layouts and filesystems, and an adopted volume."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import assert_isolated, converge_as_predicted, deploy, dry, verify


@pytest.mark.full
@pytest.mark.parametrize(
    ("suite", "layout", "filesystem"),
    [
        ("bookworm", "spare-disk", "xfs"),
        ("trixie", "spare-disk", "xfs"),
        ("trixie", "shared-vg", "ext4"),
        ("bookworm", "ubuntu-default", "ext4"),
    ],
)
def test_host_is_provisioned_verified_and_converged(
    machines: Callable[..., Machine], suite: str, layout: str, filesystem: str
) -> None:
    machine = machines(f"{suite}-{layout}", suite=suite, layout=layout)
    converge_as_predicted(machine, filesystem=filesystem)
    machine.settings["filesystem"] = filesystem
    machine.save()
    verify(machine)
    assert dry(machine).predicted == set()
    machine.destroy()


@pytest.mark.full
def test_volume_of_somebody_else_is_adopted_with_its_data_if_the_settings_say_so(
    machines: Callable[..., Machine],
) -> None:
    machine = machines("adopted", suite="bookworm", docker="preinstalled")
    machine.run(
        "lvcreate -qq -y -L 10G -n docker-lv ubuntu-vg && mkfs.ext4 -q /dev/ubuntu-vg/docker-lv && "
        "mount /dev/ubuntu-vg/docker-lv /mnt && mkdir /mnt/docker && echo data >/mnt/docker/file && touch /mnt/other && umount /mnt"
    )
    refused = deploy(machine)
    assert refused.code == 1
    assert "exists, with ext4 on it, and this project did not make it" in refused.output
    refused = deploy(machine, adopt_volume=True)
    assert refused.code == 1
    assert "holds other" in refused.output
    machine.run("mount /dev/ubuntu-vg/docker-lv /mnt && rm /mnt/other && umount /mnt")
    converge_as_predicted(machine, adopt_volume=True)
    assert machine.out("cat /var/lib/docker/file") == "data"
    assert_isolated(machine)
    assert dry(machine).predicted == set(), "the volume is not ours without the setting"
