"""What LVM reports, from a program that answers as lvs does."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bulkhead import command
from bulkhead.errors import Failed
from bulkhead.storage import lvm
from bulkhead.storage.lvm import DiskRoom, GroupUsage, SnapshotUsage

from ..programs import program

LVS = """\
  ubuntu-vg|107369988096|10737418240|ubuntu-lv|||-wi-ao----||linear
  ubuntu-vg|107369988096|10737418240|docker-lv|||owi-aos---||linear
  ubuntu-vg|107369988096|10737418240|before-build|docker-lv|83.21|swi-a-s---||linear
  ubuntu-vg|107369988096|10737418240|lost|docker-lv|100.00|swi-I-s---||linear
  data|4290772992|0|thin-snapshot|thin||Vwi---tz-k||thin,sparse
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def test_groups_and_snapshots_are_listed(programs: Path) -> None:
    program(programs / "lvs", f"cat <<'E'\n{LVS}E")
    assert lvm.list_groups() == (
        [GroupUsage("ubuntu-vg", 107369988096, 10737418240), GroupUsage("data", 4290772992, 0)],
        [
            SnapshotUsage("ubuntu-vg", "before-build", "docker-lv", 83.21),
            SnapshotUsage("ubuntu-vg", "lost", "docker-lv", 100.0),
        ],
        [],
    )


@pytest.mark.parametrize(
    ("attributes", "problem", "is_degraded"),
    [
        ("rwi-aor---", "", False),
        ("owi-aor---", "", False),  # it has a snapshot
        ("rwi-aor-p-", "partial", True),
        ("owi-aor-r-", "refresh", True),
        ("Rwi-aor-m-", "mismatches", False),
    ],
)
def test_mirrors_are_listed_with_their_health(programs: Path, attributes: str, problem: str, is_degraded: bool) -> None:
    lines = f"""\
  docker-vg|42941284352|2147483648|docker-lv|||{attributes}|42.31|raid,raid1
  docker-vg|42941284352|2147483648|linear|||-wi-ao--p-||linear
  docker-vg|42941284352|2147483648|docker-lv-snapshot|docker-lv|3.20|swi-a-s---||linear
"""
    program(programs / "lvs", f"cat <<'E'\n{lines}E")
    (mirror,) = lvm.list_groups()[2]
    values = {"group": "docker-vg", "name": "docker-lv", "problem": problem, "synced": 42.31, "is_active": True}
    assert vars(mirror) == values
    assert mirror.is_degraded == is_degraded


def test_copies_of_a_mirror_have_their_disks_and_are_whole_or_not(programs: Path) -> None:
    rows = """\
  docker-vg|[docker-lv_rimage_0]|AAAA|iwi-aor---
  docker-vg|[docker-lv_rimage_0]|CCCC|iwi-aor---
  docker-vg|[docker-lv_rmeta_0]|AAAA|ewi-aor---
  docker-vg||AAAA|
  docker-vg|[docker-lv_rimage_1]|BBBB|iwi-aor-%s
  docker-vg|other|BBBB|-wi-ao----
  vg2|[docker-lv_rimage_0]|DDDD|iwi-aor---
"""
    for health, is_whole in (("--", True), ("r-", False), ("p-", False)):
        program(programs / "pvs", f"cat <<'E'\n{rows % health}E")
        assert lvm.copies_of("docker-vg", "docker-lv") == [("AAAA CCCC", True), ("BBBB", is_whole)]
    program(programs / "pvs", f"cat <<'E'\n{rows.replace('iwi-aor-%s', 'Iwi-aor---')}E")
    assert lvm.copies_of("docker-vg", "docker-lv")[1] == ("BBBB", False)


@pytest.mark.parametrize(
    ("layout", "attributes"),
    [
        ("raid,raid0", "rwi-aor---"),
        ("raid,raid5,raid5_ls", "rwi-aor-p-"),
        ("raid,raid10,raid10_near", "rwi-aor-r-"),
        ("mirror", "mwi-aom---"),
    ],
)
def test_volume_of_another_raid_level_is_no_mirror(programs: Path, layout: str, attributes: str) -> None:
    rows = f"data|20|10|lv|||{attributes}|100.00|{layout}\n data|20|10|linear|||-wi-ao----||linear"
    program(programs / "lvs", f"printf '{rows}\n'")
    assert lvm.list_groups() == ([GroupUsage("data", 20, 10, raid=True)], [], [])


def test_raid_grows_on_the_disks_of_its_copies_by_what_both_have_free(programs: Path) -> None:
    rows = """\
  docker-vg|/dev/vdb|300|[docker-lv_rimage_0]
  docker-vg|/dev/vdb|300|
  docker-vg|/dev/vdc|100|[docker-lv_rimage_1]
  docker-vg|/dev/vdc|100|[docker-lv_rmeta_1]
  docker-vg|/dev/vdd|140|[docker-lv_rimage_1]
  docker-vg|/dev/vde|900|other
  vg2|/dev/vdf|900|[docker-lv_rimage_0]
"""
    program(programs / "pvs", f"cat <<'E'\n{rows}E")
    assert lvm.room_for_raid("docker-vg", "docker-lv") == (["/dev/vdb", "/dev/vdd"], 140)
    assert lvm.room_for_raid("docker-vg", "older-mirror") == ([], 300)
    assert lvm.largest_free("docker-vg") == ("/dev/vde", 900)


PVS = """\
  /dev/vda|ubuntu-vg|107369988096|107374182400|1048576|4194304
  /dev/vdb|docker-vg|21470642176|42949672960|1048576|4194304
  /dev/vdc|docker-vg|21470642176|21480079360|1048576|4194304
  /dev/vdd|docker-vg|21470642176|21480079359|1048576|4194304
  /dev/vde||21474836480|42949672960|1048576|
  [unknown]|docker-vg|21470642176|0|1048576|4194304
"""


def test_disks_that_have_grown_are_listed(programs: Path) -> None:
    program(programs / "pvs", f"cat <<'E'\n{PVS}E")
    assert lvm.list_disk_room() == [
        DiskRoom("/dev/vdb", "docker-vg", 20 * 2**30 + 3 * 2**20),
        DiskRoom("/dev/vdc", "docker-vg", 8 * 2**20),
    ]


def test_no_disk_has_grown_without_lvm_and_to_other_users(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(programs))
    assert lvm.list_disk_room() == []
    program(programs / "pvs", f"cat <<'E'\n{PVS}E")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert lvm.list_disk_room() == []


def test_volumes_are_listed_with_their_tags_and_whether_they_merge(programs: Path) -> None:
    lines = """\
  docker-lv|Owi-aos---|6442450944||23.90|docker-bulkhead|1795573124
  [docker-lv-snapshot]|Swi-a-s---|5708447744|docker-lv|23.90|bulkhead-snapshot,mine|1795575357
  ubuntu-lv|-wi-a-----|32212254720||||1795561591
  mirror|rwi-a-r---|32212254720||||1795561591
  [mirror_rimage_0]|iwi-aor---|32212254720||||
  older-mirror|mwi-a-m---|32212254720||||
"""
    program(programs / "lvs", f"cat <<'E'\n{lines}E")
    origin, copy, root, mirror, part, older = lvm.list_volumes("ubuntu-vg")
    assert (mirror.is_raid, older.is_raid, root.is_raid, copy.is_raid, part.made) == (True, True, False, False, 0)
    assert (origin.is_merging, copy.is_merging, root.is_merging) == (True, True, False)
    assert (origin.is_open, root.is_open) == (True, False)
    assert vars(copy) == {
        "name": "docker-lv-snapshot",
        "attributes": "Swi-a-s---",
        "size": 5708447744,
        "origin": "docker-lv",
        "percent": 23.9,
        "tags": ("bulkhead-snapshot", "mine"),
        "made": 1795575357,
    }
    assert (root.percent, root.tags) == (None, ())


def test_volume_that_is_merged_is_no_snapshot(programs: Path) -> None:
    program(programs / "lvs", "echo '  data|20|10|docker-lv||23.90|Owi-aos---||linear'")
    assert lvm.list_groups() == ([GroupUsage("data", 20, 10)], [], [])


def test_warning_beside_the_answer_does_not_matter(programs: Path) -> None:
    program(
        programs / "lvs",
        "echo '  WARNING: VG data is missing PV' >&2; echo '  data|20|10|lv|||-wi-a-----||linear'; exit 5",
    )
    assert lvm.list_groups() == ([GroupUsage("data", 20, 10)], [], [])


# What LVM writes to standard error for each file that whoever started the program has left open, unless it is told not to
# (check_for_other_open_files in its lvmcmdline.c).
LEAKED = "File descriptor 7 (/run/lock/cron) leaked on lvs invocation. Parent PID 4711: python3"
COMPLAIN = f'[ -n "$LVM_SUPPRESS_FD_WARNINGS" ] || echo "{LEAKED}" >&2'


def test_file_that_somebody_has_left_open_is_neither_an_answer_nor_an_error(programs: Path) -> None:
    program(programs / "lvs", COMPLAIN)
    assert lvm.list_groups() == ([], [], [])
    assert lvm.list_volumes("data") == []
    program(programs / "lvs", f"{COMPLAIN}; echo '  data|20|10|lv|||-wi-a-----||linear'")
    assert lvm.list_groups() == ([GroupUsage("data", 20, 10)], [], [])


def test_command_that_changes_something_is_spared_the_complaint_too(programs: Path) -> None:
    program(programs / "lvremove", f"{{ {COMPLAIN}; }} 2>&1; echo '  Failed to find logical volume' >&2; exit 5")
    with pytest.raises(Failed, match=r"`lvremove data/lv` failed: Failed to find logical volume$"):
        command.run("lvremove", "data/lv")


def test_messages_between_the_rows_are_no_rows(programs: Path) -> None:
    """As with verbose = 1 in the section log of lvm.conf."""
    program(
        programs / "lvs",
        "echo '  Processing VG data'; echo '  data|20|10|lv|||-wi-a-----||linear'; echo; echo '  Unlocking /run/lock'",
    )
    assert lvm.list_groups() == ([GroupUsage("data", 20, 10)], [], [])


def test_output_without_a_single_row_is_an_error(programs: Path) -> None:
    program(programs / "lvs", """echo '{ "report": ['; echo ']}'""")
    with pytest.raises(OSError, match=r'LVM says: \{ "report": \[ \]\}'):
        lvm.list_groups()


def test_numbers_are_those_of_no_locale(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    comma = '[ "$LC_ALL" = C ] && sign=. || sign=,'
    program(programs / "lvs", f'{comma}; echo "  data|20|10|copy|lv|83${{sign}}21|swi-a-s---||linear"')
    assert lvm.list_groups()[1] == [SnapshotUsage("data", "copy", "lv", 83.21)]


def test_failure_is_an_error(programs: Path) -> None:
    program(programs / "lvs", "echo '  /run/lock/lvm: open failed' >&2; exit 5")
    with pytest.raises(OSError, match="`lvs` says: /run/lock/lvm: open failed"):
        lvm.list_groups()


def test_hung_device_delays_nobody(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(programs / "lvs", "exec sleep 60")
    monkeypatch.setattr(lvm, "PATIENCE", 0.2)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"`lvs` did not end within 0\.2 s"):
        lvm.list_groups()
    assert time.monotonic() - began < 10


def test_host_without_lvm_has_no_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(lvm, "_GROUPS_COMMAND", ["no-such-lvs"])
    assert lvm.list_groups() == ([], [], [])


def test_others_than_root_are_not_shown_any(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(programs / "lvs", f"cat <<'E'\n{LVS}E")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert lvm.list_groups() == ([], [], [])
