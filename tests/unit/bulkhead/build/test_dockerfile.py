"""What a Dockerfile, a .dockerignore and a build context contain."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead.build import dockerfile
from bulkhead.build.dockerfile import base_images, context_size, ignore_rules, instructions, is_ignored

DOCKERFILE = """\
# syntax=docker/dockerfile:1
ARG BASE=debian:12 \n\
ARG OTHER
FROM --platform=linux/amd64 ${BASE} AS Build
run apt-get update && \\
    # a comment in between
    apt-get install -y gcc
RUN make
FROM build
FROM scratch
FROM $OTHER
FROM debian:12
COPY --from=build /a /a
"""


def test_instructions_go_over_several_lines() -> None:
    steps = instructions(DOCKERFILE)
    assert [name for name, _ in steps if name != "FROM"] == ["ARG", "ARG", "RUN", "RUN", "COPY"]
    assert "apt-get install -y gcc" in steps[3][1]


def test_images_to_begin_from_are_neither_stages_nor_nothing() -> None:
    steps = instructions(DOCKERFILE)
    assert base_images(steps, {}) == ["debian:12", "$OTHER"]
    assert base_images(steps, {"BASE": "alpine", "OTHER": "busybox"}) == ["alpine", "busybox", "debian:12"]


def test_dockerfile_that_makes_no_sense_has_no_images() -> None:
    assert base_images(instructions("FROM\nARG\nRUN\n\\\n"), {}) == [""]


@pytest.mark.parametrize(
    ("rules", "path", "ignored"),
    [
        (".git", ".git/objects/pack", True),
        (".git", "sub/.git/config", False),
        ("/docs/", "docs/a.md", True),
        ("./docs", "docs/a.md", True),
        ("*.md", "README.md", True),
        ("*.md", "sub/README.md", False),
        ("**/*.md", "README.md", True),
        ("**/*.md", "a/b/README.md", True),
        ("a/**/z", "a/b/c/z", True),
        ("te?t", "test/file", True),
        ("te?t", "te/t", False),
        ("# comment\n\n", "# comment", False),
        ("*\n!src\n", "src/main.c", False),
        ("*\n!src\n", "other", True),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
        ("[ab].txt", "a.txt", False),
        ("a.b", "axb", False),
    ],
)
def test_dockerignore_is_followed(rules: str, path: str, ignored: bool) -> None:
    assert is_ignored(path, ignore_rules(rules)) is ignored


@pytest.mark.parametrize(("rules", "size"), [("", 10_008), ("data", 1008), ("data\n!data/deep", 2008)])
def test_size_of_the_context_is_what_docker_is_sent(context: Path, rules: str, size: int) -> None:
    (context / ".dockerignore").write_text(rules)
    assert context_size(str(context)) == (size + len(rules), True)


def test_dockerfile_may_have_a_dockerignore_of_its_own(context: Path) -> None:
    (context / ".dockerignore").write_text("main.c")
    (context / "Dockerfile.dockerignore").write_text("data\n*ignore")
    assert context_size(str(context), str(context / "Dockerfile")) == (1008, True)


def test_huge_context_is_not_counted_to_its_end(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dockerfile, "_FILES", 1)
    size, is_whole = context_size(str(context))
    assert (size < 10_008, is_whole) == (True, False)
