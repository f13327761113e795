"""fstab: read with all its freedoms, changed in one line only."""

from __future__ import annotations

import pytest

from pyinfra_lvm.fstab import fstab_with, fstab_without, parse_fstab
from pyinfra_lvm.model import FstabEntry

TEXT = "# root\n/dev/vda1  /\text4\terrors=remount-ro 0 1\n\n//nas/a\\040b /mnt/a\\040b cifs ro\nnonsense\n"
ENTRY = FstabEntry("/dev/mapper/vg-a b", "/srv/a b", "ext4", ("nofail",), 0, 2)


def test_lines_are_read_with_tabs_escapes_and_missing_fields() -> None:
    assert parse_fstab(TEXT) == (
        FstabEntry("/dev/vda1", "/", "ext4", ("errors=remount-ro",), 0, 1),
        FstabEntry("//nas/a b", "/mnt/a b", "cifs", ("ro",)),
    )


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
