"""Read and change fstab as text (fstab(5)). Pure."""

from __future__ import annotations

import re

from pyinfra_lvm.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence


class FstabEntry(NamedTuple):
    """A line of fstab."""

    source: str
    target: str
    fstype: str
    options: tuple[str, ...]
    dump: int = 0
    passno: int = 0  # when fsck checks it at boot: 0 never, 1 root, 2 after root

    @classmethod
    def of(cls, source: str, target: str, fstype: str, options: Iterable[str]) -> FstabEntry:
        """Return the entry for a mount. An ext filesystem is checked at boot, after root."""
        return cls(source, target, fstype, tuple(options), passno=2 if fstype.startswith("ext") else 0)


def parse_fstab(text: str) -> tuple[FstabEntry, ...]:
    """Return the entries of a fstab. Skip comments, empty lines and lines that are no entry."""
    return tuple(entry for line in text.split("\n") if (entry := _parse_line(line)))


def fstab_lists(text: str, entry: FstabEntry) -> bool:
    """Return whether a line mounts the entry's source on its target, with any options."""
    return any((found.source, found.target) == (entry.source, entry.target) for found in parse_fstab(text))


def fstab_with(text: str, entry: FstabEntry) -> str:
    """Return ``text`` with one line for the entry's target. Every other line stays byte for byte.

    >>> print(fstab_with("# mine\\n/dev/sda1 / ext4 defaults 0 1", FstabEntry("/srv/a", "/b", "none", ("bind",))), end="")
    # mine
    /dev/sda1 / ext4 defaults 0 1
    /srv/a /b none bind 0 0
    """
    lines: list[str] = []
    written = False
    # Not splitlines(): it splits at a form feed or a carriage return too, which may be in somebody's comment.
    for line in text.removesuffix("\n").split("\n") if text else []:
        found = _parse_line(line)
        if found and found.target == entry.target:
            if not written:
                lines.append(format_entry(entry))
            written = True
        else:
            lines.append(line)
    if not written:
        lines.append(format_entry(entry))
    return "\n".join(lines) + "\n"


def fstab_without(text: str, target: str, source: str = "") -> str:
    """Return ``text`` without the lines for a target. Every other line stays byte for byte.

    Args:
        source: only lines with this source go; by default those with any.

    >>> fstab_without("# mine\\n/b /srv/a none bind 0 0\\n", "/srv/a")
    '# mine\\n'
    """
    lines = text.split("\n")
    entries = ((line, _parse_line(line)) for line in lines)
    return "\n".join(
        line for line, found in entries if not (found and found.target == target and source in ("", found.source))
    )


def fstab_replaced(text: str, targets: Collection[str], new: Sequence[str]) -> str:
    """Return ``text`` with these lines in place of all lines for some targets. Every other line stays byte for byte.

    Args:
        new: whole lines. They stand where the first of the lines for the targets stood; at the end if there is none.

    >>> print(fstab_replaced("/a /b ext4 ro 0 2\\n# mine\\n", ["/b", "/c"], ["/a /c", "/c/d /b"]), end="")
    /a /c
    /c/d /b
    # mine
    """
    lines: list[str] = []
    rest = [*new]
    for line in text.removesuffix("\n").split("\n") if text else []:
        found = _parse_line(line)
        if found and found.target in targets:
            lines += rest
            rest = []
        else:
            lines.append(line)
    return "\n".join([*lines, *rest]) + "\n"


def fstab_lines(text: str, target: str) -> list[str]:
    """Return the lines for a target, as they are."""
    return [line for line in text.split("\n") if (found := _parse_line(line)) and found.target == target]


def format_entry(entry: FstabEntry) -> str:
    """Return an entry as a line, with white space and backslashes as octal escapes."""
    fields = (entry.source, entry.target, entry.fstype, ",".join(entry.options))
    return " ".join([*(_escape(field) for field in fields), str(entry.dump), str(entry.passno)])


def _parse_line(line: str) -> FstabEntry | None:
    fields = re.split("[ \t]+", line.strip())
    if len(fields) < 3 or fields[0].startswith("#"):
        return None
    source, target, fstype = (_unescape(field) for field in fields[:3])
    options = tuple(_unescape(fields[3]).split(",")) if len(fields) > 3 else ("defaults",)
    numbers = [int(field) if field.isdecimal() else 0 for field in fields[4:6]]
    dump, passno = (*numbers, 0, 0)[:2]
    return FstabEntry(source, target.rstrip("/") or "/", fstype, options, dump, passno)


def _escape(field: str) -> str:
    return re.sub(r"[\s\\]", lambda match: f"\\{ord(match[0]):03o}", field)


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
