"""The named tuple without typing is one as typing makes it."""

from __future__ import annotations

import copy
import pickle
import typing

import pytest

from pyinfra_lvm.named_tuple import NamedTuple


class Light(NamedTuple):
    """A pair."""

    name: str
    size: int = 3

    @property
    def double(self) -> int:
        return 2 * self.size

    @classmethod
    def of(cls, name: str) -> Light:
        return cls(name, size=1)


class Typed(typing.NamedTuple):
    name: str
    size: int = 3


def test_it_has_fields_defaults_and_methods() -> None:
    assert Light("a") == ("a", 3) == Typed("a")
    assert (Light.of("b").name, Light.of("b").double) == ("b", 2)
    assert Light("a")._replace(size=4)._asdict() == Typed("a", 4)._asdict()
    assert repr(Light("a")) == "Light(name='a', size=3)"
    assert (Light._fields, Light.__doc__) == (Typed._fields, "A pair.")


def test_it_has_nothing_beside_its_fields() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        Light()  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        Light("a").other = 1  # type: ignore[attr-defined]


def test_it_can_be_copied_and_sent() -> None:
    assert copy.deepcopy(Light("a")) == pickle.loads(pickle.dumps(Light("a"))) == Light("a")
    assert type(pickle.loads(pickle.dumps(Light("a")))) is Light
