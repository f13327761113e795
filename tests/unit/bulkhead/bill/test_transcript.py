"""What docker prints while it builds."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from bulkhead.bill.transcript import Transcript

from .recordings import BUILDKIT_20, CLASSIC, CONTAINERD, IMAGE, RAWJSON


def clock() -> Iterator[float]:
    now = 0.0
    while True:
        now += 1
        yield now


def read(text: str, part: int = 7, stream: int = 2) -> Transcript:
    """Feed a text in parts of some bytes, as a pipe may deliver it."""
    ticks = clock()
    transcript = Transcript(lambda: next(ticks))
    data = text.encode() + b"\n"
    for start in range(0, len(data), part):
        transcript.feed(stream, data[start : start + part])
    return transcript


@pytest.mark.parametrize("part", [1, 7, 100_000])
def test_steps_of_buildkit_have_their_times_and_what_came_from_the_cache(part: int) -> None:
    found = read(BUILDKIT_20, part)
    assert found.builder == "BuildKit"
    assert [(step.name, step.seconds, step.is_cached) for step in found.instructions] == [
        ("[build 1/2] COPY bin/busybox /bin/sh", None, True),
        ("[build 2/2] RUN make big", 75.5, False),
        ("[stage-1 1/2] COPY --from=build /out /models/m.safetensors", 0.5, False),
        ("[stage-1 2/2] RUN rm /junk", 0.5, False),
    ]
    assert (found.sent, found.image) == (22_960_000, IMAGE)


def test_context_of_the_dockerignore_is_not_what_was_sent() -> None:
    assert read(BUILDKIT_20.replace("#3 transferring context", "#3 waiting for context")).sent is None


def test_build_without_a_context_was_sent_nothing() -> None:
    assert read("#1 [internal] load .dockerignore\n#1 DONE 0.0s\n#2 [1/1] RUN a\n#2 DONE 0.1s").sent == 0
    assert read("").sent is None


def test_image_of_containerds_store_is_its_list_of_manifests() -> None:
    found = read(CONTAINERD)
    assert found.image == IMAGE
    assert [step.name for step in found.instructions] == ["[1/1] COPY a /a"]


def test_steps_of_the_classic_builder_are_timed_from_line_to_line() -> None:
    found = read(CLASSIC, stream=1)
    assert (found.builder, found.sent, found.image) == ("classic", 22_960_000, "3608b0af03a1")
    assert [step.name for step in found.instructions] == [
        "[1/6] FROM scratch AS build",
        "[2/6] COPY bin/busybox /bin/sh",
        "[3/6] FROM scratch",
        "[4/6] COPY bin/busybox /bin/sh",
        "[5/6] RUN make big",
        "[6/6] ENV A=b",
    ]
    assert [step.is_cached for step in found.instructions] == [False, False, False, True, False, False]
    assert all((step.seconds is None) == step.is_cached for step in found.instructions)


@pytest.mark.parametrize("indent", [None, 2], ids=["in_lines", "indented"])
def test_rawjson_is_read_too(indent: int | None) -> None:
    found = read("\n".join(json.dumps(json.loads(line), indent=indent) for line in RAWJSON.splitlines()))
    assert [(step.name, step.seconds, step.is_cached) for step in found.instructions] == [
        ("[1/2] RUN make", 2.5, False),
        ("[2/2] RUN waits", None, True),
    ]
    assert (found.builder, found.sent, found.image) == ("BuildKit", 6390, IMAGE)


@pytest.mark.parametrize(
    ("text", "failed"),
    [("#5 ERROR: process did not complete: exit code: 137", True), ("#5 CANCELED", True), ("#5 DONE 0.1s", False)],
)
def test_failed_step_is_known(text: str, failed: bool) -> None:
    assert read(f"#5 [1/1] RUN a\n{text}").steps[0].has_failed is failed


def test_quiet_build_names_its_image() -> None:
    assert read(IMAGE, stream=1).image == IMAGE
    assert read(f"#5 [1/1] RUN a\n#5 0.1 {IMAGE}").image == ""


def test_image_that_goes_to_standard_output_is_no_status() -> None:
    assert read("{\n" + RAWJSON, stream=1).steps == []


def test_two_streams_do_not_mix_their_lines() -> None:
    transcript = Transcript()
    transcript.feed(2, b"#1 [1/1] RU")
    transcript.feed(1, b"sha256:abc\n")
    transcript.feed(2, b"N a\n#1 DONE 0.1s\n")
    assert [step.name for step in transcript.steps] == ["[1/1] RUN a"]


def test_long_line_takes_no_memory() -> None:
    transcript = Transcript()
    for _ in range(50):
        transcript.feed(1, b"x" * 65536)
    assert sum(map(len, transcript._rests.values())) == 2**20


def test_rawjson_with_a_long_log_is_read_whole() -> None:
    started = {"digest": "sha256:r", "name": "[1/1] RUN make", "started": "2026-11-29T19:11:00Z"}
    ended = {"logs": [{"data": "x" * 300_000}], "vertexes": [{**started, "completed": "2026-11-29T19:11:02Z"}]}
    assert read("\n".join(map(json.dumps, ({"vertexes": [started]}, ended))), part=10_000).steps[0].seconds == 2


@pytest.mark.parametrize("text", ["writing image sha256:" + "b" * 64, "CACHED", "ERROR: x"])
def test_what_a_step_prints_after_a_carriage_return_is_no_status_of_dockers(text: str) -> None:
    found = read(f"#5 [1/1] RUN a\n#5 0.1 10 %\r#5 {text}\r\n#5 DONE 0.1s\r")
    assert (found.image, found.steps[0].is_cached, found.steps[0].has_failed) == ("", False, False)
    assert found.steps[0].seconds == 0.1


@pytest.mark.parametrize(
    ("stream", "text", "builder"),
    [
        (2, '{"a": ' + "[" * 100_000 + "\n}", "BuildKit"),
        (1, f"Sending build context to Docker daemon  {'9' * 400}B", "classic"),
    ],
    ids=["deep", "large"],
)
def test_nothing_that_docker_prints_ends_the_reading(stream: int, text: str, builder: str) -> None:
    found = read(f"{text}\n#1 [1/1] RUN a\nStep 1/1 : RUN a\n", part=100_000, stream=stream)
    assert ([step.name for step in found.steps], found.builder) == (["[1/1] RUN a"], builder)


def test_step_at_the_peak_is_the_instruction_that_began_last() -> None:
    found = read(BUILDKIT_20)
    run = found.instructions[1]
    assert run.ended is not None
    assert found.running_at(run.ended) is run
    copy = found.instructions[2]
    assert found.running_at(copy.began) is copy
    assert found.running_at(0) is None
    late = found.running_at(1e9)
    assert late is not None
    assert late.name == "exporting to image", "a sample comes a little later than what it shows"
