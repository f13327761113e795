"""The fact StorageLayout parses the output of real hosts. The tests of HostFacts are in tasks/preflight.

The fixtures were recorded on machines of the lab. After a change of the command, record them again.
lsblk's columns RM and MODEL were put in by hand, as lsblk prints them for virtio disks: false and null. So was vgs' vg_uuid.
"""

from __future__ import annotations

from pathlib import Path

from pyinfra_testing.facts import make_fact_tests

from pyinfra_lvm.facts import StorageLayout

HERE = Path(__file__).parent

TestStorageLayout = make_fact_tests("pyinfra_lvm", "facts.StorageLayout", HERE / "facts")


def test_snapshot_that_is_being_merged_is_known_by_its_brackets() -> None:
    row = '{"lv_name":"%s","vg_name":"vg","lv_size":"4","lv_active":"active","segtype":"linear","origin":"%s","lv_tags":""}'
    rows = ", ".join(row % names for names in (("lv", ""), ("[gone]", "lv"), ("kept", "lv"), ("[lvol0_pmspare]", "")))
    found = StorageLayout().process(["##STORAGE## lvs", f'{{"report": [{{"lv": [{rows}]}}]}}'])
    assert [(volume.name, volume.merging) for volume in found.logical_volumes] == [
        ("lv", False),
        ("gone", True),
        ("kept", False),
        ("lvol0_pmspare", False),
    ]
