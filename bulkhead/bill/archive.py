"""Read what `docker save` writes, as it comes: nothing is unpacked to a disk.

Three layouts exist. Before 25.0 a layer is ID/layer.tar, and one that occurs twice is a symbolic link to the first. From
25.0, and from containerd's store, it is a blob, in containerd's store a compressed one (moby, image/tarexport/save.go and
daemon/containerd/image_exporter.go). The blobs come in any order; manifest.json, or else index.json, has theirs.
"""

from __future__ import annotations

import gzip
import json
import os
import tarfile
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from bulkhead.bill.waste import DIRECTORY, FILE, LINK, LayerEntry, WastedPlace, waste_of
from bulkhead.context.junk import MODELS
from bulkhead.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BLOCK = 2**20  # bytes that are read at once
_LARGEST_DOCUMENT = 16 * 2**20  # bytes of a manifest or a configuration
_SMALLEST_MODEL = 2**20  # bytes
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_DAMAGED = (
    tarfile.TarError,
    EOFError,
    zlib.error,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
)


class Unreadable(Problem):
    """An archive cannot be read. The message says why, as a part of a sentence."""


class SavedLayer(NamedTuple):
    """A layer of an image. Sizes are bytes."""

    instruction: str  # that made it, as the image's history has it; empty: it does not say
    size: int  # of its files
    files: int
    wasted: int | None  # that later layers remove or overwrite; None: the layers could not be read
    models: int  # of model files in it


class SavedImage(NamedTuple):
    """An image as `docker save` writes it. Sizes are bytes."""

    layers: tuple[SavedLayer, ...]  # from the lowest
    compressed: int | None  # None: the engine keeps the layers uncompressed
    wasted: int | None
    places: tuple[WastedPlace, ...]
    unread: str = ""  # why sizes of files are not known; empty: they are

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers)

    @property
    def models(self) -> int:
        return sum(layer.models for layer in self.layers)


@dataclass
class _Blob:
    """A layer in the archive."""

    stored: int  # bytes
    is_compressed: bool
    unread: str = ""
    entries: list[LayerEntry] = field(default_factory=list)


def read(stream: BinaryIO) -> SavedImage:
    """Read an image. Memory is taken for the paths in it, and for nothing of what the files have.

    Raises:
        Unreadable: it is no image, or ends too early.
    """
    blobs: dict[str, _Blob] = {}
    documents: dict[str, Any] = {}
    links: dict[str, str] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK) as archive:
            for member in _members(archive):
                name = os.path.normpath(member.name)
                if member.issym() or member.islnk():
                    beside = os.path.dirname(name) if member.issym() else ""
                    links[name] = os.path.normpath(os.path.join(beside, member.linkname))
                elif member.isreg() and (content := archive.extractfile(member)):
                    head = content.peek(512)  # type: ignore[attr-defined] # it is a BufferedReader
                    if _is_layer(head):
                        blobs[name] = _blob(content, head, member.size)
                    elif head[:1] in (b"{", b"[") and member.size <= _LARGEST_DOCUMENT:
                        documents[name] = json.loads(content.read())
        names, history = _manifest(documents)
        return _image([blobs[_resolved(name, links)] for name in names], history)
    except _DAMAGED as error:
        raise Unreadable(f"what docker save wrote cannot be read ({error or type(error).__name__})") from error


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in archive:  # `next` seeks backwards in an empty archive (Python 3.10)
        archive.members.clear()  # type: ignore[attr-defined] # tarfile keeps all of them otherwise
        yield member


def _is_layer(head: bytes) -> bool:
    """Return whether a file begins as a layer: a tar, or an empty one, or something compressed."""
    is_tar = head[257:262] == b"ustar" or (len(head) >= 512 and not any(head[:512]))
    return is_tar or head.startswith((_GZIP, _ZSTD))


def _blob(content: Any, head: bytes, stored: int) -> _Blob:
    if head.startswith(_ZSTD):
        return _Blob(stored, is_compressed=True, unread="its layers are compressed with zstd, which is not read here")
    is_compressed = head.startswith(_GZIP)
    blob = _Blob(stored, is_compressed)
    unpacked = gzip.GzipFile(fileobj=content) if is_compressed else content
    with tarfile.open(fileobj=unpacked, mode="r|", bufsize=_BLOCK) as layer:
        for member in _members(layer):
            kind = DIRECTORY if member.isdir() else LINK if member.islnk() else FILE
            path = os.path.normpath("/" + member.name).lstrip("/")
            target = os.path.normpath("/" + member.linkname).lstrip("/") if kind == LINK else ""
            blob.entries.append(LayerEntry(path, kind, member.size if member.isreg() and kind == FILE else 0, target))
    return blob


def _resolved(name: str, links: Mapping[str, str]) -> str:
    name = os.path.normpath(name)
    visited = set()
    while name in links and name not in visited:
        visited.add(name)
        name = links[name]
    return name


def _manifest(documents: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the names of the layers, from the lowest, and the instruction of each; the image's newest manifest decides."""
    if found := documents.get("manifest.json"):
        layers, config = (
            [str(name) for name in found[0]["Layers"] or ()],
            documents[os.path.normpath(found[0]["Config"])],
        )
    else:
        manifest = _of_index(documents, documents["index.json"])
        layers = [_path(layer["digest"]) for layer in manifest["layers"]]
        config = documents[_path(manifest["config"]["digest"])]
    history = [each for each in config.get("history") or () if not each.get("empty_layer")]
    return layers, [str(each.get("created_by", "")) for each in history]


def _of_index(documents: Mapping[str, Any], index: Mapping[str, Any]) -> Any:
    """Return the first manifest of an index that is an image's: attestations are stored as images for no platform."""
    for each in index["manifests"]:
        if (each.get("platform") or {}).get("architecture") == "unknown" or _path(each["digest"]) not in documents:
            continue
        found = documents[_path(each["digest"])]
        return _of_index(documents, found) if "manifests" in found else found
    raise KeyError("it has no manifest")


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _image(blobs: list[_Blob], history: list[str]) -> SavedImage:
    if len(history) != len(blobs):
        history = [""] * len(blobs)
    compressed = sum(blob.stored for blob in blobs) if blobs and all(blob.is_compressed for blob in blobs) else None
    unread = next((blob.unread for blob in blobs if blob.unread), "")
    waste = None if unread else waste_of(blob.entries for blob in blobs)
    layers = tuple(
        SavedLayer(
            instruction,
            sum(entry.size for entry in blob.entries),
            sum(entry.kind != DIRECTORY for entry in blob.entries),
            waste.by_layer[number] if waste else None,
            sum(entry.size for entry in blob.entries if _is_model(entry)),
        )
        for number, (blob, instruction) in enumerate(zip(blobs, history, strict=True))
    )
    return SavedImage(layers, compressed, waste.bytes if waste else None, waste.places if waste else (), unread)


def _is_model(entry: LayerEntry) -> bool:
    return entry.size >= _SMALLEST_MODEL and entry.path.endswith(MODELS)
