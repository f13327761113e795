"""The space that a build should need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bulkhead.build import estimate
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
    (context / "Dockerfile").write_text(
        "FROM here\nFROM elsewhere\nCOPY . .\nCOPY --from=0 /a /a\nRUN a\nRUN b\nRUN c\n"
    )
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


LARGE = {"unused": "FROM far AS unused\nRUN a\nCOPY large .\n", "last": "FROM near AS last\nRUN b\nCOPY small .\n"}


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        ("", "1", "twice 9 bytes of context + 1 image to pull of 2.0 GiB + 1 RUN step of 1.0 GiB"),
        ("--target unused", "1", "twice 1.0 GiB of context + 1 image to pull of 2.0 GiB + 1 RUN step of 1.0 GiB"),
        ("", "0", "twice 1.0 GiB of context + 1 image to pull of 2.0 GiB + 1 RUN step of 1.0 GiB"),
        (
            "--build-context near={context}/other",
            "1",
            "twice 2.0 GiB of context + 1 RUN step of 1.0 GiB",
        ),
        ("--build-context near=docker-image://here", "1", "twice 9 bytes of context + 1 RUN step of 1.0 GiB"),
    ],
)
def test_estimate_counts_what_the_target_uses(
    context: Path, words: str, environment: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_BUILDKIT", environment)
    (context / "Dockerfile").write_text("".join(LARGE.values()))
    (context / "small").write_bytes(b"123456789")
    (context / "other").mkdir()
    for name, size in (("large", G), ("other/larger", 2 * G)):
        (context / name).touch()
        os.truncate(context / name, size)
    (context / ".dockerignore").write_text("data\nother\n")
    given = words.format(context=context).split()
    need = need_of(None, Arguments.of([*given, str(context)]), {}, lambda name: name == "here")
    assert need.source == f"an estimate: {expected}; --need overrides it"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("Dockerfile", "FROM a\nCPOY a b\n", "Dockerfile:2: there is no instruction CPOY. Did you mean COPY?"),
        (
            ".dockerignore",
            "[b-a]\n",
            ".dockerignore:1: it is no valid pattern: Docker refuses the build. Write \\[ for a bracket",
        ),
    ],
)
def test_what_docker_will_refuse_has_a_flat_estimate_that_says_why(
    context: Path, name: str, content: str, reason: str
) -> None:
    (context / "Dockerfile").write_text("FROM a\nCOPY . .\n")
    (context / name).write_text(content)
    need = need_of(None, Arguments.of([str(context)]), {}, has_none)
    assert need.bytes == 5 * G
    assert f"5.0 GiB for what cannot be read in advance ({reason})" in need.source


def test_huge_context_is_not_counted_to_its_end(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_FILES", 1)
    (context / "Dockerfile").write_text("FROM here\nCOPY . .\n")
    assert "twice more than " in need_of(None, Arguments.of([str(context)]), {}, has_none).source


def test_dockerfile_from_standard_input_leaves_the_contexts_dockerignore_in_force(
    context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".dockerignore").write_text("*")
    (context / ".dockerignore").write_text("data\n.dockerignore\n")
    monkeypatch.chdir(tmp_path)
    need = need_of(None, Arguments.of(["-f", "-", str(context)]), {}, has_none)
    assert need.bytes == 5 * G + 2 * 1000, "main.c"


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
