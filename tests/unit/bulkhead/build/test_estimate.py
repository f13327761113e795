"""What a build is expected to need, and what is remembered for that."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bulkhead import state
from bulkhead.build import dockerfile
from bulkhead.build import history as build_history
from bulkhead.build.dockerfile import base_images, context_size, ignore_rules, instructions, is_ignored
from bulkhead.build.estimate import Arguments, Need, need_of
from bulkhead.build.history import with_build

G = 2**30
DAY = 86400


def has_none(_: str) -> bool:
    return False


# -- docker build's arguments


@pytest.mark.parametrize(
    ("words", "tag", "file", "context"),
    [
        ("-t app .", "app", "", "."),
        ("--tag app:1 .", "app:1", "", "."),
        ("--tag=app:1 --tag=app:latest .", "app:1", "", "."),
        ("-tapp -f=docker/Dockerfile dir", "app", "docker/Dockerfile", "dir"),
        ("-qt app --no-cache --pull dir", "app", "", "dir"),
        (". -t app", "app", "", "."),
        ("--build-arg A=1 --label b --network none --file F dir", "", "F", "dir"),
        ("--secret id=a,src=b --ssh default -m 1g -", "", "", "-"),
        ("--option-of-tomorrow value dir", "", "", "dir"),
        ("--no-cache -- -t", "", "", "-t"),
        ("--rm=false https://example.com/app.git#main", "", "", "https://example.com/app.git#main"),
        ("", "", "", ""),
        ("-t", "", "", ""),
    ],
)
def test_arguments_are_read_as_docker_build_reads_them(words: str, tag: str, file: str, context: str) -> None:
    arguments = Arguments.of(words.split())
    assert (arguments.tag, arguments.file, arguments.context) == (tag, file, context)


def test_progress_and_build_arguments_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "there")
    arguments = Arguments.of("--progress=plain --build-arg A=1=2 --build-arg HERE .".split())
    assert arguments.progress == "plain"
    assert arguments.build_args == {"A": "1=2", "HERE": "there"}
    assert Arguments.of(["-q", "."]).progress == "quiet"


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("-t app .", "app"),
        ("-t app:1.2 .", "app"),
        ("-t registry:5000/team/app .", "registry:5000/team/app"),
        ("-t registry:5000/team/app:1 -", "registry:5000/team/app"),
        ("dir", "{here}/dir {here}/dir/Dockerfile"),
        ("-f other dir/../dir", "{here}/dir {here}/other"),
        ("https://example.com/app.git", "https://example.com/app.git"),
        ("https://me:token@example.com/app.git#main", "https://example.com/app.git#main"),
        ("git@example.com:app.git", "git@example.com:app.git"),
        ("-", ""),
    ],
)
def test_builds_of_the_same_image_are_known_by_its_name_or_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, key: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Arguments.of(words.split()).key == key.format(here=tmp_path)


@pytest.mark.parametrize(
    "context", ["git@github.com:a/b", "github.com/a/b", "ssh://host/a", "http://host/a.tar.gz", "-"]
)
def test_what_is_elsewhere_is_no_file_of_this_host(context: str) -> None:
    assert Arguments.of(["-f", "Dockerfile", context]).dockerfile == ""


# -- the Dockerfile


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


# -- the context


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


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """1,000 bytes of a program, 9,000 of what it does not need."""
    place = tmp_path / "context"
    for name, size in (("main.c", 1000), ("data/model", 8000), ("data/deep/more", 1000)):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"x" * size)
    (place / "link").symlink_to("/nowhere")
    return place


@pytest.mark.parametrize(("rules", "size"), [("", 10_008), ("data", 1008), ("data\n!data/deep", 2008)])
def test_context_is_what_docker_is_sent(context: Path, rules: str, size: int) -> None:
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


# -- the need


def build(peak: int, time: float = 0.0) -> dict[str, Any]:
    return {"time": time, "peak": peak, "size": None}


def test_users_figure_comes_first() -> None:
    assert need_of(25 * G, Arguments.of(["-t", "app", "."]), {"app": [build(G)]}, has_none) == Need(
        25 * G, "--need 25G"
    )


def test_earlier_builds_tell_what_the_next_needs() -> None:
    need = need_of(None, Arguments.of(["-t", "app:2", "."]), {"app": [build(G), build(10 * G), build(2 * G)]}, has_none)
    assert need == Need(11 * G, "3 earlier builds took up to 10.0 GiB, and 10 % more")


def test_without_any_the_dockerfile_and_the_context_do(context: Path) -> None:
    (context / "Dockerfile").write_text("FROM here\nFROM elsewhere\nRUN a\nRUN b\nRUN c\n")
    (context / "large").write_bytes(b"")
    os.truncate(context / "large", G)
    need = need_of(None, Arguments.of([str(context)]), {}, lambda name: name == "here")
    assert 7 * G < need.bytes < 7 * G + 2**20
    assert need.source == (
        "a guess: twice 1.0 GiB of context + 1 image to pull of 2.0 GiB + 3 RUN steps of 1.0 GiB; --need says it better"
    )


@pytest.mark.parametrize("words", ["-", "-t app -", "https://example.com/app.git", "-f - {context}", "{context}"])
def test_what_cannot_be_read_beforehand_is_guessed(context: Path, words: str) -> None:
    need = need_of(None, Arguments.of(words.format(context=context).split()), {}, has_none)
    assert 5 * G <= need.bytes < 5 * G + 2**20
    assert "5.0 GiB for what cannot be read before" in need.source


def test_pipe_is_left_for_docker_to_read(context: Path) -> None:
    os.mkfifo(context / "pipe")
    need = need_of(None, Arguments.of(["-f", str(context / "pipe"), str(context)]), {}, has_none)
    assert "cannot be read before" in need.source


def test_nothing_is_needed_for_nothing() -> None:
    assert need_of(None, Arguments.of([]), {}, has_none).bytes == 0


# -- what is remembered


def test_five_builds_of_an_image_are_remembered() -> None:
    history: build_history.History = {}
    for number in range(1, 8):
        history = with_build(history, "app", build(number * G, time=number))
    assert [each["peak"] // G for each in history["app"]] == [3, 4, 5, 6, 7]


def test_builds_from_the_cache_do_not_push_the_whole_one_out_for_a_month() -> None:
    history: build_history.History = {"app": [build(20 * G, time=0)]}
    for number in range(1, 10):
        history = with_build(history, "app", build(number, time=number * DAY))
    assert [each["peak"] for each in history["app"]] == [20 * G, 6, 7, 8, 9]
    history = with_build(history, "app", build(10, time=31 * DAY))
    assert [each["peak"] for each in history["app"]] == [6, 7, 8, 9, 10]


def test_hundred_images_are_remembered_those_built_last() -> None:
    history: build_history.History = {str(number): [build(G, time=number)] for number in range(100)}
    history = with_build(history, "new", build(G, time=1000))
    assert len(history) == 100
    assert "0" not in history
    assert {"1", "99", "new"} <= history.keys()


@pytest.fixture(params=["root", "user"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the history is."""
    monkeypatch.setattr(state, "PERSISTENT", str(tmp_path / "lib"))
    monkeypatch.setattr(state, "VOLATILE", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "geteuid", lambda: 0 if request.param == "root" else 1000)
    return tmp_path / ("lib/builds.json" if request.param == "root" else "home/bulkhead/builds.json")


def test_what_is_remembered_is_for_its_owner_alone(kept: Path) -> None:
    build_history.remember("app", 5, 7)
    build_history.remember("app", 6, None)
    found = build_history.load()["app"]
    assert [(each["peak"], each["size"]) for each in found] == [(5, 7), (6, None)]
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"app": 7}', '{"app": [7]}', '{"app": [{"peak": "much", "time": 1}]}', '{"app": []}']
)
def test_damaged_history_is_none(kept: Path, content: str) -> None:
    kept.parent.mkdir(parents=True)
    kept.write_text(content)
    assert build_history.load() == {}
    build_history.remember("app", 5, None)
    assert [each["peak"] for each in json.loads(kept.read_text())["app"]] == [5]
