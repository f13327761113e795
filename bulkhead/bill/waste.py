"""Find what the layers of an image hold in vain: written in one, removed or overwritten in a later one. Pure."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# How layers say what they remove (OCI image specification, layer.md): .wh.NAME the file or directory NAME of the layers
# below, .wh..wh..opq everything that they have in the directory. The other names with .wh..wh. are AUFS's own.
_WHITEOUT, _OPAQUE, _RESERVED = ".wh.", ".wh..wh..opq", ".wh..wh."
_PLACES = 10  # that are named

FILE, DIRECTORY, LINK = "file", "directory", "link"  # LINK: a hard link. A file is whatever else is no directory


class LayerEntry(NamedTuple):
    """An entry of a layer."""

    path: str  # without a slash at the beginning or the end
    kind: str
    size: int = 0  # bytes
    target: str = ""  # of a hard link: a path


class WastedPlace(NamedTuple):
    """A path whose bytes are in the image and cannot be seen in it."""

    path: str
    bytes: int
    written: int  # number of the layer that wrote the most of them, from 0
    removed: int  # number of the layer that removes or overwrites it


class Waste(NamedTuple):
    """What an image holds in vain."""

    by_layer: tuple[int, ...]  # bytes, by the layer that wrote them
    places: tuple[WastedPlace, ...]  # the largest first

    @property
    def bytes(self) -> int:
        return sum(self.by_layer)


class _Inode:
    __slots__ = ("layer", "names", "size")

    def __init__(self, size: int, layer: int) -> None:
        self.size = size
        self.layer = layer
        self.names = 1  # a file with several names goes with the last of them


_Tree: TypeAlias = "dict[str, _Inode | _Tree]"


def waste_of(layers: Iterable[list[LayerEntry]]) -> Waste:
    """Return what the layers hold in vain.

    Args:
        layers: from the lowest.
    """
    root: _Tree = {}
    by_layer: list[int] = []
    places: list[tuple[int, WastedPlace]] = []

    def release(path: str, node: _Inode | _Tree, number: int) -> None:
        lost: dict[int, int] = {}
        for inode in _inodes(node):
            inode.names -= 1
            if not inode.names and inode.layer != number:
                lost[inode.layer] = lost.get(inode.layer, 0) + inode.size
        for layer, size in lost.items():
            by_layer[layer] += size
        if total := sum(lost.values()):
            place = WastedPlace(path, total, max(lost, key=lost.__getitem__), number)
            heapq.heappush(places, (total, place))
            if len(places) > _PLACES:
                heapq.heappop(places)

    for number, entries in enumerate(layers):
        by_layer.append(0)
        # A whiteout means the layers below, wherever it stands in the archive.
        for entry in entries:
            directory, _, name = entry.path.rpartition("/")
            if not name.startswith(_WHITEOUT):
                continue
            tree = _directory(root, directory)
            if name == _OPAQUE and tree:
                hidden = dict(tree)
                tree.clear()
                release(directory, hidden, number)
            elif not name.startswith(_RESERVED) and tree and (name := name.removeprefix(_WHITEOUT)) in tree:
                release(_joined(directory, name), tree.pop(name), number)
        for entry in entries:
            directory, _, name = entry.path.rpartition("/")
            if name.startswith(_WHITEOUT) or not name:
                continue
            tree = root
            above = ""
            for part in directory.split("/") if directory else ():
                above = _joined(above, part)
                below = tree.get(part)
                if not isinstance(below, dict):
                    if below:
                        release(above, below, number)
                    below = tree[part] = {}
                tree = below
            old = tree.get(name)
            if entry.kind == DIRECTORY and isinstance(old, dict):
                continue
            tree[name] = _node(root, entry, number)
            if old is not None:
                release(entry.path, old, number)
    return Waste(tuple(by_layer), tuple(place for _, place in sorted(places, reverse=True)))


def _node(root: _Tree, entry: LayerEntry, number: int) -> _Inode | _Tree:
    if entry.kind == DIRECTORY:
        return {}
    if entry.kind == LINK:
        directory, _, name = entry.target.rpartition("/")
        target = (_directory(root, directory) or {}).get(name)
        if isinstance(target, _Inode) and target.layer == number:
            target.names += 1
            return target
    return _Inode(entry.size, number)


def _directory(root: _Tree, path: str) -> _Tree | None:
    """Return a directory; None if there is none."""
    tree = root
    for part in path.split("/") if path else ():
        below = tree.get(part)
        if not isinstance(below, dict):
            return None
        tree = below
    return tree


def _inodes(node: _Inode | _Tree) -> Iterator[_Inode]:
    pending = [node]
    while pending:
        if isinstance(each := pending.pop(), dict):
            pending += each.values()
        else:
            yield each


def _joined(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name
