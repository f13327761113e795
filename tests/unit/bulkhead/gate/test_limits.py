"""Limits, from a file and from the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bulkhead.gate.limits import BadLimits, Limit, read

G, M = 2**30, 2**20


@pytest.mark.parametrize(
    ("name", "text", "limit"),
    [
        ("peak", "25G", Limit("peak", 25 * G)),
        ("image", "1.5G", Limit("image", 3 * G // 2)),
        ("models", "0", Limit("models", 0)),
        ("layers", "40", Limit("layers", 40)),
        ("wasted", "5%", Limit("wasted", percent=5.0)),
        ("wasted", "200M", Limit("wasted", 200 * M)),
        ("increase", "2.5 %", Limit("increase", percent=2.5)),
    ],
)
def test_limit_is_a_size_a_number_or_a_percentage(name: str, text: str, limit: Limit) -> None:
    assert Limit.parse(name, text) == limit


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("peak", "much", "peak must be a size such as 500M or 12G, not 'much'"),
        ("image", "10%", "image must be a size such as 500M or 12G, not '10%'"),
        ("wasted", "-1", "wasted must be a size such as 500M or 12G, or a percentage such as 10%, not '-1'"),
        ("layers", "12M", "layers must be a number, not '12M'"),
        ("layers", "", "layers must be a number, not ''"),
    ],
)
def test_other_limits_are_refused(name: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Limit.parse(name, text)


def test_limits_of_an_image_come_over_those_of_all(tmp_path: Path) -> None:
    path = tmp_path / "limits.ini"
    path.write_text(
        "[gate web]\nimage = 1G\n# for all images\n[gate]\nimage = 12G ; unpacked\nlayers = 40\n[gate registry:5000/app]\npeak=3G\n"
        "[tool of others]\nx = y\n"
    )
    assert read(str(path), "web") == {"image": Limit("image", G), "layers": Limit("layers", 40)}
    path.write_text(path.read_text().replace("[gate web]", "[gate\tweb]"))
    assert read(str(path), "app") == {"image": Limit("image", 12 * G), "layers": Limit("layers", 40)}
    assert read(str(path), "registry:5000/app") == {
        "image": Limit("image", 12 * G),
        "layers": Limit("layers", 40),
        "peak": Limit("peak", 3 * G),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image = 1G", "is no INI file: File contains no section headers"),
        ("[gate\nimage = 1G", "is no INI file: "),
        ("[gate]\nimage = 1G\nimage = 2G", "is no INI file: "),
        ("[gat]\nimage = 1G", "has no section [gate]"),
        ("[gate]\nimages = 1G", ": [gate] has no limit images. Choose from peak, image, compressed,"),
        ("[gate]\nimage = big", ": image must be a size such as 500M or 12G, not 'big'"),
        ("[gate]\nlayers = 4\n[Gate web]\nimage = 1G", ": [Gate web] must be [gate] or [gate IMAGE], with"),
        ("[gate]\nlayers = 4\n[gate:web]\nimage = 1G", ": [gate:web] must be [gate] or [gate IMAGE], with"),
        ("[gate]\nlayers = 4\n[gate registry:5000/web:1.2]\nimage = 1G", "with the image's name without a tag"),
        ("[gate web]\nimage = big", ""),
        ("[gate https://host/app.git#v1:web]\nimage = 1G", ""),
        ("[gate registry:5000/web]\nimage = 1G", ""),
    ],
)
def test_damaged_file_is_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "limits.ini"
    path.write_text(text)
    if not message:
        assert read(str(path), "app") == {}, "another image's limits are not held here"
        return
    with pytest.raises(BadLimits) as refusal:
        read(str(path), "app")
    assert str(refusal.value).startswith(f"{path}")
    assert message in str(refusal.value)


def test_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadLimits, match="cannot be read: No such file"):
        read(str(tmp_path / "gone"), "app")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadLimits, match="is no INI file"):
        read(str(tmp_path / "binary"), "app")
