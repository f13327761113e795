"""fstab: read with all its freedoms, changed in one line only."""

from __future__ import annotations

import pytest

from pyinfra_lvm.fstab import (
    format_entry,
    fstab_lines,
    fstab_lists,
    fstab_replaced,
    fstab_with,
    fstab_without,
    parse_fstab,
)
from pyinfra_lvm.model import FstabEntry

TEXT = "# root\n/dev/vda1  /\text4\terrors=remount-ro 0 1\n\n//nas/a\\040b /mnt/a\\040b cifs ro\nnonsense\n"
ENTRY = FstabEntry("/dev/mapper/vg-a b", "/srv/a b", "ext4", ("nofail",), 0, 2)


def test_lines_are_read_with_tabs_escapes_and_missing_fields() -> None:
    assert parse_fstab(TEXT) == (
        FstabEntry("/dev/vda1", "/", "ext4", ("errors=remount-ro",), 0, 1),
        FstabEntry("//nas/a b", "/mnt/a b", "cifs", ("ro",)),
    )


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("/a /b ext4", FstabEntry("/a", "/b", "ext4", ("defaults",), 0, 0)),
        ("/a /b/ ext4 ro,nofail 1 2 # more", FstabEntry("/a", "/b", "ext4", ("ro", "nofail"), 1, 2)),
        ("/a /b ext4 ro x ²", FstabEntry("/a", "/b", "ext4", ("ro",), 0, 0)),
        ("/a /b", None),
        ("# /a /b ext4", None),
    ],
)
def test_missing_field_has_its_default(line: str, read: FstabEntry | None) -> None:
    assert parse_fstab(line) == ((read,) if read else ())


@pytest.mark.parametrize(("fstype", "passno"), [("ext4", 2), ("xfs", 0), ("none", 0)])
def test_only_an_ext_filesystem_is_checked_at_boot_after_root(fstype: str, passno: int) -> None:
    assert format_entry(FstabEntry.of("/a", "/b", fstype, ["ro"])) == f"/a /b {fstype} ro 0 {passno}"


OTHERS = "/dev/a /a ext4 ro\n/dev/z /z ext4 ro\n"


def test_line_of_another_target_is_neither_replaced_nor_taken_out() -> None:
    entry = FstabEntry("/dev/m", "/m", "ext4", ("ro",))
    both = fstab_with(OTHERS, entry)
    assert both == f"{OTHERS}/dev/m /m ext4 ro 0 0\n"
    assert fstab_without(both, "/m") == fstab_without(both, "/m", "/dev/m") == OTHERS
    assert fstab_without(both, "/m", "/dev/a") == fstab_without(both, "/m", "/dev/z") == both


def test_line_is_listed_with_its_source_and_its_target() -> None:
    assert fstab_lists(OTHERS, FstabEntry("/dev/a", "/a", "xfs", ()))
    for source, target in (("/dev/a", "/m"), ("/dev/m", "/a"), ("/dev/m", "/m")):
        assert not fstab_lists(OTHERS, FstabEntry(source, target, "ext4", ("ro",)))


def test_new_line_is_added_and_the_others_stay_byte_for_byte() -> None:
    assert fstab_with(TEXT, ENTRY) == TEXT + "/dev/mapper/vg-a\\040b /srv/a\\040b ext4 nofail 0 2\n"


@pytest.mark.parametrize("text", ["", "# a\r\n", "# form\x0cfeed\n", "# \u2028\n\n\n", "/a\u00a0b /c ext4\n"])
def test_no_character_in_somebodys_line_breaks_or_changes_it(text: str) -> None:
    assert fstab_with(text, ENTRY) == text + "/dev/mapper/vg-a\\040b /srv/a\\040b ext4 nofail 0 2\n"


def test_line_of_the_same_target_is_replaced_in_its_place_and_only_once() -> None:
    twice = TEXT + "/old /srv/a\\040b xfs defaults\n# end\n/older /srv/a\\040b/ xfs defaults\n"
    changed = fstab_with(twice, ENTRY)
    assert changed == TEXT + "/dev/mapper/vg-a\\040b /srv/a\\040b ext4 nofail 0 2\n# end\n"
    assert fstab_with(changed, ENTRY) == changed


def test_line_is_taken_out_and_the_others_stay_byte_for_byte() -> None:
    assert fstab_without(fstab_with(TEXT, ENTRY), ENTRY.target) == TEXT
    assert fstab_without(TEXT, "/srv/none") == TEXT
    assert fstab_without("", "/srv/none") == ""


def test_lines_are_replaced_as_a_whole_and_back_again() -> None:
    theirs = "UUID=1\t/data  ext4 noatime 0 2"
    before = f"# mine \n/dev/a / ext4 defaults 0 1\n{theirs}\n\tswap\f none swap sw 0 0"
    assert fstab_lines(before, "/data") == [theirs]
    ours = ["UUID=1 /srv ext4 private 0 2", "/srv/a /data none bind 0 0"]
    after = fstab_replaced(before, ["/data", "/srv"], ours)
    assert after == before.replace(theirs, "\n".join(ours)) + "\n"
    assert fstab_replaced(after, ["/data", "/srv"], [theirs]) == before + "\n"
    assert fstab_replaced("/dev/a / ext4 defaults 0 1", ["/data"], ours).splitlines()[1:] == ours
    assert fstab_replaced("", ["/data"], ours) == "\n".join(ours) + "\n"
