"""Sizes: how they are written, and how people read them."""

from __future__ import annotations

import pytest

from bulkhead.sizes import Size, human, setting_of

G = 2**30


@pytest.mark.parametrize(
    ("text", "expected"),
    [("60G", 60 * G), ("1.5T", 1536 * G), ("512M", G // 2), ("2GiB", 2 * G), ("10g", 10 * G), ("64K", 2**16)],
)
def test_bytes_are_powers_of_1024(text: str, expected: int) -> None:
    assert Size.parse(text).bytes == expected


@pytest.mark.parametrize("text", ["", "G", "60", "-1G", "1e3G", "60G;id", "60%vg", "9" * 400 + "G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^no size$"):
        Size.parse(text)


@pytest.mark.parametrize(("text", "expected"), [("0.5%", G // 2), ("1%", G), ("100%", 100 * G), ("1G", G)])
def test_percentage_is_of_the_whole(text: str, expected: int) -> None:
    assert Size.parse(text).bytes_of(100 * G) == expected


@pytest.mark.parametrize("text", ["0%", "101%"])
def test_percentage_of_nothing_or_of_more_than_there_is_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be more than zero and at most 100 %$"):
        Size.parse(text)


def test_human_sizes() -> None:
    assert [human(n) for n in (0, 5 * 2**20, 60 * G, 3 * 2**40)] == ["0 bytes", "5.0 MiB", "60.0 GiB", "3.0 TiB"]
    assert [human(n) for n in (2**20 - 1, 2**20, G, 2**40)] == ["1048575 bytes", "1.0 MiB", "1.0 GiB", "1.0 TiB"]


def test_what_is_a_little_less_does_not_look_as_if_it_were_enough() -> None:
    assert human(100 * G - 1) == "99.9 GiB"


@pytest.mark.parametrize(
    ("size", "text"), [(70 * 2**30, "70G"), (3 * 2**29, "1.5G"), (75157733376, "69.9G"), (2**40 + 2**30, "1025G")]
)
def test_size_as_a_setting_is_rounded_down_and_can_be_set(size: int, text: str) -> None:
    assert setting_of(size) == text
    assert Size.parse(text).bytes <= size
