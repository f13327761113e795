"""The space that a build should need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bulkhead.build.arguments import Arguments
from bulkhead.build.estimate import Need, need_of

from .build_host import G, past_build


def has_none(_: str) -> bool:
    return False


def test_need_given_by_the_user_comes_first() -> None:
    assert need_of(25 * G, Arguments.of(["-t", "app", "."]), {"app": [past_build(G)]}, has_none) == Need(
        25 * G, "--need 25G"
    )


def test_earlier_builds_decide_the_need() -> None:
    need = need_of(
        None,
        Arguments.of(["-t", "app:2", "."]),
        {"app": [past_build(G), past_build(10 * G), past_build(2 * G)]},
        has_none,
    )
    assert need == Need(11 * G, "3 earlier builds took up to 10.0 GiB, and 10 % more")


def test_without_earlier_builds_dockerfile_and_context_decide_the_need(context: Path) -> None:
    (context / "Dockerfile").write_text("FROM here\nFROM elsewhere\nRUN a\nRUN b\nRUN c\n")
    (context / "large").write_bytes(b"")
    os.truncate(context / "large", G)
    need = need_of(None, Arguments.of([str(context)]), {}, lambda name: name == "here")
    assert 7 * G < need.bytes < 7 * G + 2**20
    assert need.source == (
        "an estimate: twice 1.0 GiB of context + 1 image to pull of 2.0 GiB + 3 RUN steps of 1.0 GiB; --need overrides it"
    )


@pytest.mark.parametrize("words", ["-", "-t app -", "https://example.com/app.git", "-f - {context}", "{context}"])
def test_unreadable_dockerfile_has_a_flat_estimate(context: Path, words: str) -> None:
    need = need_of(None, Arguments.of(words.format(context=context).split()), {}, has_none)
    assert 5 * G <= need.bytes < 5 * G + 2**20
    assert "5.0 GiB for what cannot be read in advance" in need.source


def test_pipe_is_left_for_docker_to_read(context: Path) -> None:
    os.mkfifo(context / "pipe")
    need = need_of(None, Arguments.of(["-f", str(context / "pipe"), str(context)]), {}, has_none)
    assert "cannot be read in advance" in need.source


def test_build_without_a_context_needs_nothing() -> None:
    assert need_of(None, Arguments.of([]), {}, has_none).bytes == 0


def test_bake_and_compose_have_a_flat_estimate_and_a_history_like_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bake = Arguments.of("docker buildx bake".split())
    expected = "an estimate: 5.0 GiB for what cannot be read in advance; --need overrides it"
    assert need_of(None, bake, {}, has_none) == Need(5 * G, expected)
    assert need_of(None, bake, {f"bake in {tmp_path}": [past_build(10 * G)]}, has_none).bytes == 11 * G
