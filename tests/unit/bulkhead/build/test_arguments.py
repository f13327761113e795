"""Arguments of `docker build`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead.build.arguments import Arguments


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
def test_remote_context_has_no_dockerfile_on_this_host(context: str) -> None:
    assert Arguments.of(["-f", "Dockerfile", context]).dockerfile == ""
