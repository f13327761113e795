"""What the layers of an image hold in vain."""

from __future__ import annotations

import pytest

from bulkhead.bill.waste import DIRECTORY, FILE, LINK, LayerEntry, WastedPlace, waste_of


def entries(*lines: str) -> list[LayerEntry]:
    """Return a layer: PATH SIZE for a file, PATH/ for a directory, PATH = PATH for a hard link."""
    found = []
    for line in lines:
        path, _, what = line.partition(" ")
        if path.endswith("/"):
            found.append(LayerEntry(path[:-1], DIRECTORY))
        elif what.startswith("= "):
            found.append(LayerEntry(path, LINK, 0, what[2:]))
        else:
            found.append(LayerEntry(path, FILE, int(what or 0)))
    return found


@pytest.mark.parametrize(
    ("layers", "wasted"),
    [
        pytest.param([["a 5", "b 7"]], [0], id="one_layer_wastes_nothing"),
        pytest.param([["a 5", "b 7"], ["a 6"]], [5, 0], id="overwritten"),
        pytest.param([["a 5"], ["a 6"], ["a 7"]], [5, 6, 0], id="overwritten_twice"),
        pytest.param([["d/a 5", "d/b 7"], ["d/.wh.a"]], [5, 0], id="removed"),
        pytest.param([["d/", "d/a 5", "d/e/b 7", "c 1"], [".wh.d"]], [12, 0], id="directory_removed"),
        pytest.param([["d/a 5", "d/b 7"], ["d/", "d/.wh..wh..opq", "d/a 3"]], [12, 0], id="opaque_directory"),
        pytest.param([["d/a 5"], ["d/a 3", "d/.wh..wh..opq"]], [5, 0], id="opaque_directory_after_its_files"),
        pytest.param([["d/a 5"], ["d/"]], [0, 0], id="directory_again_hides_nothing"),
        pytest.param([["d/a 5", "d/b 6"], ["d 2"]], [11, 0], id="file_in_place_of_a_directory"),
        pytest.param([["d 2"], ["d/", "d/a 5"]], [2, 0], id="directory_in_place_of_a_file"),
        pytest.param([["d 2"], ["d/a 5"]], [2, 0], id="directory_that_is_not_named_in_place_of_a_file"),
        pytest.param([["a 5"], [".wh.a", "a 6"]], [5, 0], id="removed_and_made_anew"),
        pytest.param([["a 5"], [".wh.b"]], [0, 0], id="what_is_not_there_removed"),
        pytest.param([["a 5", "b = a"], [".wh.a"]], [0, 0], id="file_with_a_second_name_stays"),
        pytest.param([["a 5", "b = a"], [".wh.a"], [".wh.b"]], [5, 0, 0], id="file_goes_with_its_last_name"),
        pytest.param([["a 5"], ["b = a"]], [0, 0], id="hard_link_to_a_lower_layer_has_no_bytes"),
        pytest.param([["a 5", "d/.wh..wh.plnk 9"], ["a 1"]], [5, 0], id="names_of_AUFS_count_nothing"),
        pytest.param([["a 5"], ["a 6", "a 7"]], [5, 0], id="twice_in_one_layer_is_no_waste"),
    ],
)
def test_waste_is_what_later_layers_hide(layers: list[list[str]], wasted: list[int]) -> None:
    found = waste_of([entries(*lines) for lines in layers])
    assert [*found.by_layer] == wasted
    assert found.bytes == sum(wasted)


def test_largest_places_are_named_with_both_layers() -> None:
    layers = [entries("lists/a 30", "lists/b 40", "keep 9"), entries("cache 50"), entries(".wh.lists", "cache 1")]
    assert waste_of(layers).places == (WastedPlace("lists", 70, 0, 2), WastedPlace("cache", 50, 1, 2))
    many = [
        entries(*(f"f{number} {number}" for number in range(1, 31))),
        entries(*(f"f{number} 0" for number in range(1, 31))),
    ]
    assert [place.bytes for place in waste_of(many).places] == [*range(30, 20, -1)]
