"""The processes that keep containers running."""

from __future__ import annotations

import shutil

from bulkhead.docker.containers import shims
from bulkhead.storage.processes import Process

from ...fake_proc import FakeProc


def test_shims_of_a_containerd_in_a_container_are_left_out(proc: FakeProc) -> None:
    proc.become(1)
    proc.add(70, "containerd-shim-runc-v2 -id c1", name="containerd-shim")
    proc.add(71, "nginx", parent=70, namespace="container")
    proc.add(80, "containerd-shim-runc-v2 -id c2", name="containerd-shim", namespace="nested")
    proc.add(81, "containerd-shim-runc-v2 -id c3", name="containerd-shim")
    shutil.rmtree(proc.path / "81" / "ns")  # it has ended
    assert shims() == [Process(70, "containerd-shim")]
