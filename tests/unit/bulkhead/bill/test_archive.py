"""What `docker save` writes is read as it comes, in each layout."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable

import pytest

from bulkhead.bill.archive import SavedLayer, Unreadable, read

from .archives import layer, oci_layout, old_layout, tar_of

M = 2**20
LAYERS = [
    layer({"etc/": None, "etc/passwd": 100, "big": 3 * M, "m/a.safetensors": 2 * M, "tiny.pt": 10}),
    layer({"./big": 1000, "./twin": "→ ./big", "./.wh.etc": 0}),
]
INSTRUCTIONS = ["COPY . / # buildkit", "RUN /bin/sh -c make # buildkit"]
LAYOUTS: dict[str, Callable[[list[bytes], list[str]], bytes]] = {
    "old": old_layout,
    "oci": oci_layout,
    "containerd": lambda layers, instructions: oci_layout(layers, instructions, compress=True),
    "index_alone": lambda layers, instructions: oci_layout(layers, instructions, manifest=False),
    "attested": lambda layers, instructions: oci_layout(
        layers, instructions, manifest=False, attests=True, compress=True
    ),
}


class Pipe(io.RawIOBase):
    """A stream that cannot seek, and returns as much as a pipe does."""

    def __init__(self, content: bytes) -> None:
        self._rest = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._rest.read(min(size, 65536) if size >= 0 else -1)

    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layers_are_found_in_their_order_with_what_made_them(layout: str) -> None:
    image = read(Pipe(LAYOUTS[layout](LAYERS, INSTRUCTIONS)))  # type: ignore[arg-type]
    assert image.layers == (
        SavedLayer("COPY . / # buildkit", 5 * M + 110, 4, 3 * M + 100, 2 * M),
        SavedLayer("RUN /bin/sh -c make # buildkit", 1000, 3, 0, 0),
    )
    assert (image.size, image.wasted, image.models, image.unread) == (5 * M + 1110, 3 * M + 100, 2 * M, "")
    assert [(place.path, place.bytes) for place in image.places] == [("big", 3 * M), ("etc", 100)]


def test_compressed_size_is_known_only_where_the_layers_are_compressed() -> None:
    assert read(io.BytesIO(oci_layout(LAYERS, INSTRUCTIONS))).compressed is None
    compressed = read(io.BytesIO(oci_layout(LAYERS, INSTRUCTIONS, compress=True))).compressed
    assert compressed is not None
    assert 0 < compressed < 100_000, "zeros compress well"


@pytest.mark.parametrize("layout", ["old", "oci"])
def test_layer_that_occurs_twice_counts_twice(layout: str) -> None:
    same = layer({"a": 500})
    image = read(io.BytesIO(LAYOUTS[layout]([same, same], ["RUN a", "RUN b"])))
    assert [(each.instruction, each.size, each.wasted) for each in image.layers] == [
        ("RUN a", 500, 500),
        ("RUN b", 500, 0),
    ]


def test_empty_layer_is_a_layer() -> None:
    image = read(io.BytesIO(oci_layout([LAYERS[0], layer({})], INSTRUCTIONS)))
    assert [each.files for each in image.layers] == [4, 0]


def test_layers_in_zstd_leave_their_files_unknown() -> None:
    image = read(io.BytesIO(oci_layout([b"\x28\xb5\x2f\xfd" + bytes(600)], INSTRUCTIONS[:1])))
    assert (image.wasted, image.compressed) == (None, 604)
    assert "zstd" in image.unread
    assert image.layers[0].wasted is None


def test_history_that_does_not_fit_the_layers_names_none() -> None:
    assert [each.instruction for each in read(io.BytesIO(oci_layout(LAYERS, ["RUN a"]))).layers] == ["", ""]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        tar_of({"etc/passwd": b"root"}),
        tar_of({"manifest.json": b"[]"}),
        tar_of({"manifest.json": b'[{"Config": "c", "Layers": ["gone/layer.tar"]}]', "c": b"{}"}),
        tar_of({"manifest.json": b'{"broken'}),
        tar_of({"index.json": b'{"manifests": []}'}),
        oci_layout(LAYERS, INSTRUCTIONS)[: 2 * M],
        oci_layout(LAYERS, INSTRUCTIONS, compress=True)[:4000],
        tar_of({"blobs/sha256/a": b"\x1f\x8bnot gzip at all" * 100}),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(content: bytes) -> None:
    with pytest.raises(Unreadable, match=r"^what docker save wrote cannot be read \(.+\)$"):
        read(io.BytesIO(content))


def test_memory_does_not_grow_with_the_files() -> None:
    small, large = (oci_layout([layer({f"f{n}": size for n in range(20)})], ["RUN a"]) for size in (10, 2 * M))
    peaks = []
    for content in (small, large):
        stream = io.BytesIO(content)
        tracemalloc.start()
        read(stream)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 8 * M, "the large one has 40 MiB of files"


def test_memory_grows_with_the_names_alone() -> None:
    stream = io.BytesIO(oci_layout([layer({f"f{number}": 0 for number in range(8_000)})], ["RUN a"]))
    tracemalloc.start()
    read(stream)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 7 * M, "with what tarfile itself keeps, it would be 8 MiB"
