"""The layouts and filesystems that the other files leave out, each provisioned, verified, and run once more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import converge, dry, verify


@pytest.mark.full
@pytest.mark.parametrize(
    ("suite", "layout", "filesystem"), [("bookworm", "spare-disk", "xfs"), ("trixie", "shared-vg", "ext4")]
)
def test_host_is_provisioned_verified_and_converged(
    machines: Callable[..., Machine], suite: str, layout: str, filesystem: str
) -> None:
    machine = machines(f"{suite}-{layout}", suite=suite, layout=layout)
    predicted = dry(machine, filesystem=filesystem).predicted
    assert converge(machine, filesystem=filesystem).changed == predicted
    machine.settings["filesystem"] = filesystem
    machine.save()
    verify(machine)
    assert dry(machine).predicted == set()
    machine.destroy()
