"""NamedTuple without typing, whose import costs half as much as Python's start: bulkhead's check is started all day."""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False  # mypy takes a variable of this name for true

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:

    class _Meta(type):
        def __new__(cls, name, bases, body):
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = body["__annotations__"]
            defaults = [body.pop(field) for field in fields if field in body]
            return type(name, (namedtuple(name, fields, defaults=defaults),), {"__slots__": (), **body})

    class NamedTuple(metaclass=_Meta):
        """Make a tuple with named fields of a class, as typing.NamedTuple does. Its module needs annotations of __future__."""
