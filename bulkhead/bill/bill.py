"""A bill: what one build took, and what its image is made of. Sizes are bytes; None is what nobody could measure. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from bulkhead.bill.cache import command_of
from bulkhead.bill.transcript import CLASSIC
from bulkhead.bill.waste import WastedPlace
from bulkhead.docker.redaction import without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import UnionType

    from bulkhead.bill.archive import SavedImage
    from bulkhead.bill.cache import CacheChange, CacheRecord
    from bulkhead.bill.client import HistoryEntry
    from bulkhead.bill.transcript import PrintedStep, Transcript

_LONGEST = 300  # characters of an instruction that are kept
_FROM = "FROM "
_BASE = "(the base image)"


class BillStep(NamedTuple):
    """What one instruction took."""

    text: str  # as docker prints it
    seconds: float | None
    is_cached: bool
    wrote: int | None  # that is left of it when it ended
    image: int | None  # of that in the image
    cache: int | None  # of that in the build cache alone


class Bill(NamedTuple):
    """What a build took."""

    number: int  # 0: it is not kept
    key: str  # its builds are compared under it; empty: it has no name
    name: str  # of the image, or what people call the build
    time: float  # when the build began, in seconds since the epoch
    code: int  # exit code of docker
    seconds: float
    engine: str  # its version and its store
    builder: str
    image: str  # identifier; empty: there is none
    peak: int | None  # above the start, on the filesystems that hold Docker's data
    peak_step: str  # that ran then
    cache_written: int | None  # new in the cache, with what the image shares
    cache_added: int | None  # new in the cache, and not in the image
    cache_total: int | None
    size: int | None  # of the image's files, in all of its layers
    compressed: int | None
    layers: int | None
    wasted: int | None  # written in one layer, removed or overwritten in a later one
    models: int | None  # model files in the image
    context: int | None  # that the build can be sent
    sent: int | None  # that docker sent this time
    stored: int | None  # of the context in the cache
    steps_written: int | None  # by RUN steps, as the guard counts it: also what they deleted again
    is_disturbed: bool  # whether other builds ran meanwhile
    steps: tuple[BillStep, ...]
    places: tuple[WastedPlace, ...]  # where most is wasted
    unknown: dict[str, str]  # by figure: why it is not known
    has_passed: bool | None = None  # its gate; None: it has met none

    @property
    def cached_steps(self) -> int:
        return sum(step.is_cached for step in self.steps)

    def as_json(self) -> dict[str, Any]:
        return {
            **self._asdict(),
            "steps": [step._asdict() for step in self.steps],
            "places": [place._asdict() for place in self.places],
        }

    @classmethod
    def of_json(cls, values: Any) -> Bill:
        """Read a bill.

        Raises:
            ValueError: it is none.
        """
        try:
            known = {name: values[name] for name in cls._fields if name != "has_passed"}
            known["steps"] = tuple(BillStep(**each) for each in values["steps"])
            known["places"] = tuple(WastedPlace(**each) for each in values["places"])
            bill = cls(**known, has_passed=values.get("has_passed"))
            is_sound = all(
                _are(part, kinds)
                for part, kinds in (
                    (bill, _KINDS),
                    *((step, _STEP_KINDS) for step in bill.steps),
                    *((place, _PLACE_KINDS) for place in bill.places),
                )
            ) and all(isinstance(reason, str) for reason in bill.unknown.values())
        except KeyError as error:
            raise ValueError(f"{error} is missing") from None
        except (TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None
        if not is_sound:
            raise ValueError("a figure in it is not a number")
        return bill


_Kinds: TypeAlias = "dict[str, type | UnionType]"  # by the name of a field
_FIGURES = (
    *("peak", "cache_written", "cache_added", "cache_total", "size", "compressed", "layers", "wasted", "models"),
    *("context", "sent", "stored", "steps_written"),
)
_KINDS: _Kinds = {
    **dict.fromkeys(("key", "name", "engine", "builder", "image", "peak_step"), str),
    **dict.fromkeys(_FIGURES, int | None),
    "number": int,
    "code": int,
    "time": int | float,
    "seconds": int | float,
    "unknown": dict,
}
_STEP_KINDS: _Kinds = {
    "text": str,
    "seconds": int | float | None,
    **dict.fromkeys(("wrote", "image", "cache"), int | None),
}
_PLACE_KINDS: _Kinds = {"path": str, **dict.fromkeys(("bytes", "written", "removed"), int)}
_MOST = 2**60  # of bytes
_LATEST = 2**37  # seconds since the epoch, in the year 6325; JSON can also have Infinity


def _are(values: tuple[Any, ...], kinds: _Kinds) -> bool:
    """Return whether fields have values of their kinds, and numbers that can be shown."""
    for name, kind in kinds.items():
        value = getattr(values, name)
        most = _LATEST if name in ("time", "seconds") else _MOST
        if not isinstance(value, kind) or (isinstance(value, int | float) and not abs(value) <= most):
            return False
    return True


class Measurement(NamedTuple):
    """What was measured of a build, from everywhere. None, or an empty text: that could not be had."""

    key: str
    name: str
    time: float
    code: int
    seconds: float
    engine: str
    transcript: Transcript
    peak: int | None
    peak_step: PrintedStep | None
    change: CacheChange | None
    image: Mapping[str, Any] | None  # as docker inspects it
    history: Sequence[HistoryEntry]
    saved: SavedImage | None
    uses_containerd: bool
    context: int | None
    steps_written: int | None
    is_disturbed: bool
    unknown: dict[str, str]


def bill_of(measured: Measurement) -> Bill:
    """Put a bill together."""
    transcript, change, saved, image = measured.transcript, measured.change, measured.saved, measured.image
    steps, cache_added = _steps(measured)
    is_read = saved is not None and not saved.unread
    unknown = dict(measured.unknown)
    if saved and saved.unread:
        unknown |= dict.fromkeys(("wasted", "models"), saved.unread)
    elif saved and saved.compressed is None:
        unknown["compressed"] = "this engine keeps the layers of images uncompressed"
    if transcript.sent is None:
        unknown["sent"] = "docker did not print it"
    return Bill(
        number=0,
        key=measured.key,
        name=measured.name,
        time=measured.time,
        code=measured.code,
        seconds=measured.seconds,
        engine=measured.engine,
        builder=transcript.builder or "unknown",
        image=str(image["Id"]) if image else "",
        peak=measured.peak,
        peak_step=_shortened(measured.peak_step.name) if measured.peak_step else "",
        cache_written=change.written if change else None,
        cache_added=cache_added,
        cache_total=change.total if change else None,
        size=saved.size if saved and is_read else _size(measured),
        compressed=saved.compressed if saved else None,
        layers=len((image.get("RootFS") or {}).get("Layers") or ()) if image else None,
        wasted=saved.wasted if saved else None,
        models=saved.models if saved and is_read else None,
        context=measured.context,
        sent=transcript.sent,
        stored=change.context if change else None,
        steps_written=measured.steps_written,
        is_disturbed=measured.is_disturbed,
        steps=steps,
        places=saved.places if saved else (),
        unknown=unknown,
    )


def _size(measured: Measurement) -> int | None:
    """Return the bytes of an image that was not read."""
    if measured.image is None:
        return None
    if measured.uses_containerd:  # what docker inspects there is the size of the compressed layers
        return sum(entry.size for entry in measured.history) or None
    size = measured.image.get("Size")
    return size if isinstance(size, int) else None


def _steps(measured: Measurement) -> tuple[tuple[BillStep, ...], int | None]:
    """Return what each instruction took, and the bytes that are new in the cache and not in the image."""
    instructions = measured.transcript.instructions
    images, rest = _sizes_in_image(measured)
    stages = {_stage(instructions[number]) for number in images}
    added = [*measured.change.added] if measured.change else None
    in_image: set[str] = set()
    steps = []
    for number, step in enumerate(instructions):
        records = _taken(step, added) if added is not None else []
        if number in images:
            in_image |= {record.id for record in records}
        image = images.get(number)
        if image is None and records:
            shared = [record.size for record in records if record.is_shared]
            # In containerd's store, a record's size has the compressed layer too.
            if not shared or not (measured.uses_containerd or step.is_cached):
                image = sum(shared)
        # In the image's own stages, the text of a layer may differ from the step's, unless each layer has found its step.
        if image is None and stages and (_stage(step) not in stages or not rest):
            image = 0
        wrote = sum(record.size for record in records) if records else None if step.is_cached else images.get(number)
        cache = (
            None if added is None else sum(each.size for each in records if number not in images and not each.is_shared)
        )
        steps.append(BillStep(_shortened(step.name), step.seconds, step.is_cached, wrote, image, cache))
    if rest:
        steps.append(BillStep(_BASE, None, is_cached=False, wrote=None, image=rest, cache=None))
    if measured.change is None:
        return tuple(steps), None
    own = (each.size for each in measured.change.added if not each.is_shared and each.id not in in_image)
    return tuple(steps), sum(own)


def _taken(step: PrintedStep, added: list[CacheRecord]) -> list[CacheRecord]:
    """Return the records that a step has written, and take them out."""
    wanted = command_of(step.name)
    found = [each for each in added if each.description == step.name or command_of(each.description) == wanted]
    if not wanted.startswith(_FROM):  # an image that is pulled has a record for each of its layers
        found = found[:1]
    for each in found:
        added.remove(each)
    return found


def _sizes_in_image(measured: Measurement) -> tuple[dict[int, int], int]:
    """Return the bytes in the image of each instruction that has a layer there, by its number, and those of the others."""
    instructions = measured.transcript.instructions
    if measured.transcript.builder == CLASSIC:
        # There every instruction of the last stage has one entry in the history, also if it writes nothing.
        last = max((number for number, step in enumerate(instructions) if _is_from(step)), default=-1)
        own = range(last + 1, len(instructions))
        entries = measured.history[len(measured.history) - len(own) :] if len(own) <= len(measured.history) else ()
        rest = sum(entry.size for entry in measured.history[: -len(own) or None]) if entries else 0
        return {number: entry.size for number, entry in zip(own, entries, strict=False)}, rest
    saved = measured.saved
    layers = [(each.instruction, each.size) for each in saved.layers] if saved and not saved.unread else []
    if not any(instruction for instruction, _ in layers):
        layers = [(each.instruction, each.size) for each in measured.history]
    pool = [(command_of(instruction), size) for instruction, size in layers]
    found = {}
    for number in reversed(range(len(instructions))):  # the last stage comes last
        wanted = command_of(instructions[number].name)
        place = next((each for each in reversed(range(len(pool))) if pool[each][0] == wanted), None)
        if place is not None:
            found[number] = pool.pop(place)[1]
    return found, sum(size for _, size in pool)


def _stage(step: PrintedStep) -> str:
    """
    >>> from bulkhead.bill.transcript import PrintedStep
    >>> _stage(PrintedStep("[build  2/10] RUN make", 0)), _stage(PrintedStep("[2/3] RUN make", 0))
    ('build', '')
    """
    return step.name[1:].partition("]")[0].rpartition(" ")[0].strip()


def _is_from(step: PrintedStep) -> bool:
    return command_of(step.name).startswith(_FROM)


def _shortened(text: str) -> str:
    text = without_secrets(" ".join(text[: 20 * _LONGEST].split()))  # a RUN can have a script of a megabyte
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
