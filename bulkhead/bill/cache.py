"""The records of BuildKit's cache before and after a build: what the build has added, and which step wrote it. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from bulkhead.docker.units import bytes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONTEXT = "source.local"  # the type of a record that holds a context
_CONTEXT = "local source for context"  # its description; that of the Dockerfile's is "local source for dockerfile"


class CacheRecord(NamedTuple):
    """A record of the cache."""

    id: str
    size: int  # bytes
    is_shared: bool  # whether an image has it too
    kind: str
    description: str
    uses: int


Records = dict[str, CacheRecord]  # by their identifier


def of_engine(values: Iterable[Mapping[str, Any]]) -> Records:
    """Read the records that the engine's API has under /system/df.

    Raises:
        ValueError: they have another form.
    """
    try:
        records = [
            CacheRecord(
                str(each["ID"]),
                max(int(each["Size"]), 0),
                bool(each["Shared"]),
                str(each.get("Type") or ""),
                str(each.get("Description") or ""),
                int(each.get("UsageCount") or 0),
            )
            for each in values
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the engine describes its build cache in another form: {error!r}") from None
    return {record.id: record for record in records}


def of_text(text: str) -> Records:
    """Read what `docker buildx du --verbose` prints.

    Every buildx prints this: before 0.28 with tabs and `Parent:`, since then with blanks and a list `Parents:`. The JSON
    that newer ones print has sizes of four digits too (docker/buildx, commands/diskusage.go).

    Raises:
        ValueError: it prints something else.
    """
    found = {}
    for block in re.split(r"^(?=ID:)", text, flags=re.MULTILINE)[1:]:
        lines = re.findall(r"^(\w[\w ]*):[ \t]+(.*)$", block, re.MULTILINE)
        values = dict(reversed(lines))  # what follows the last record has names of the same kind
        size = bytes_of(values.get("Size", ""))
        if size is None or "ID" not in values:
            raise ValueError(
                f"docker buildx du prints a record of another form: {values.get('ID')!r} of the size {values.get('Size')!r}"
            )
        found[values["ID"]] = CacheRecord(
            values["ID"],
            size,
            values.get("Shared") == "true",
            values.get("Type", ""),
            values.get("Description", ""),
            int(values["Usage count"]) if values.get("Usage count", "").isdecimal() else 0,
        )
    return found


class CacheChange(NamedTuple):
    """What a build has done to the cache."""

    added: tuple[CacheRecord, ...]  # records that are new, or used again, with what they hold more than before
    context: int | None  # bytes that the contexts of the build take; None: it had none
    total: int  # bytes of the whole cache now, less what images share

    @property
    def written(self) -> int:
        """Return the bytes that are new in the cache, also those that an image shares."""
        return sum(record.size for record in self.added)


def change(before: Records, after: Records) -> CacheChange:
    """Compare the cache before and after a build."""
    used = [record for key, record in after.items() if key not in before or record.uses > before[key].uses]
    added = (
        record._replace(size=record.size - before[record.id].size if record.id in before else record.size)
        for record in used
    )
    contexts = [record.size for record in used if record.kind == CONTEXT and record.description.startswith(_CONTEXT)]
    return CacheChange(
        added=tuple(record for record in added if record.size >= 0),
        context=sum(contexts) if contexts else None,
        total=sum(record.size for record in after.values() if not record.is_shared),
    )


# The forms that one instruction has: in docker's output, in a record's description, in the history of an image.
_STAGE = re.compile(r"^\[[^\]]*\] ")
_MOUNT = re.compile(r"^mount / from exec ")
_ARGUMENTS = re.compile(r"^RUN \|\d+ .*?(?=/\S+ (?:-\S+ )*-\w*c )", re.DOTALL)
_SHELL = re.compile(r"^RUN (?:/\S+/)?\w*sh (?:-\S+ )*-\w*c ")
_FLAGS = re.compile(r"^((?:RUN|COPY|ADD) )(?:--\S+ )+")
_PULLED = re.compile(r"^pulled from ")
_END = re.compile(r" # buildkit$")


def command_of(text: str) -> str:
    """Return an instruction in the form that all of its descriptions share.

    >>> command_of("[build 2/4] RUN --mount=type=cache,target=/c  make all")
    'RUN make all'
    >>> command_of("mount / from exec /bin/sh -c make all"), command_of("RUN |1 A=b c /bin/sh -c make all # buildkit")
    ('RUN make all', 'RUN make all')
    >>> command_of("[2/2] COPY --from=build /out /app"), command_of("COPY /out /app # buildkit")
    ('COPY /out /app', 'COPY /out /app')
    """
    text = " ".join(_END.sub("", _STAGE.sub("", text)).split())
    text = _ARGUMENTS.sub("RUN ", _PULLED.sub("FROM ", _MOUNT.sub("RUN ", text)))
    return _FLAGS.sub(r"\1", _SHELL.sub("RUN ", text))
