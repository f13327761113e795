"""What the removal of several images frees, as far as Docker's two sizes show it."""

from __future__ import annotations

from typing import Any

import pytest

from bulkhead.docker.layers import Layers

# base 100 ← app 30 ← a 5, b 7
#          ← web 40
CHAINS = {"a": ("base", "app", "a"), "b": ("base", "app", "b"), "web": ("base", "web")}


def image(name: str, size: int, shared: int) -> dict[str, Any]:
    return {"Id": name, "RepoDigests": None, "Size": size, "SharedSize": shared}


IMAGES = [image("a", 135, 130), image("b", 137, 130), image("web", 140, 100), image("unknown", 50, 20)]


@pytest.mark.parametrize(
    ("order", "freed"),
    [
        ("a", [5]),
        ("a b", [5, 37]),
        ("b a", [7, 35]),
        ("web", [40]),
        ("a b web", [5, 37, 140]),
        ("web a b", [40, 5, 137]),
    ],
)
def test_shared_layers_go_with_the_last_image_that_has_them(order: str, freed: list[int]) -> None:
    layers = Layers(IMAGES, CHAINS)
    assert [layers.remove(name) for name in order.split()] == freed


def test_image_whose_layers_are_not_known_frees_what_it_does_not_share() -> None:
    layers = Layers(IMAGES, CHAINS | {"unknown": (), "gone": ("base",)})
    assert [layers.remove(name) for name in ("unknown", "gone", "nobody")] == [30, 0, 0]


def test_images_of_the_same_layers_free_them_with_the_second() -> None:
    layers = Layers([image("a", 100, 100), image("b", 100, 100)], {"a": ("x", "y"), "b": ("x", "y")})
    assert [layers.remove("a"), layers.remove("b")] == [0, 100]


def test_layers_that_are_all_another_images_stay_with_it() -> None:
    chains = {"a": ("x", "y"), "b": ("x", "y"), "c": ("x",)}
    layers = Layers([image("a", 100, 100), image("b", 100, 100), image("c", 60, 60)], chains)
    assert [layers.remove(name) for name in "abc"] == [0, 40, 60]


def test_image_that_docker_counts_smaller_than_another_of_its_layers_frees_nothing() -> None:
    layers = Layers([image("a", 100, 100), image("b", 130, 130)], {"a": ("x", "y"), "b": ("x", "y")})
    assert [layers.remove("a"), layers.remove("b")] == [0, 130]


def test_too_little_is_promised_rather_than_too_much() -> None:
    # Docker tells no size for the place where the two pairs part.
    pairs = {name: ("base", name[0], name) for name in ("a1", "a2", "b1", "b2")}
    layers = Layers([image(name, 120, 110) for name in pairs], pairs)
    assert [layers.remove(name) for name in ("a1", "a2", "b1", "b2")] == [10, 10, 10, 120]
