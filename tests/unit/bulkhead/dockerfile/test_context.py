"""The files of a build, and the walk through its context."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bulkhead.dockerfile.context import (
    IGNORED,
    SENT,
    UNUSED,
    Selection,
    content_of,
    dockerfile_of,
    ignore_file_of,
    walk,
)
from bulkhead.dockerfile.ignore import IgnoreRules
from bulkhead.dockerfile.patterns import parse


def make(top: Path, *paths: str) -> None:
    """Make files of 100 bytes, and directories: those whose path ends with a slash."""
    for path in paths:
        place = top / path
        (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            place.write_bytes(b"x" * 100)


def fates(top: Path, content: str = "", *paths: str, counts_all: bool = False) -> dict[str, int]:
    """Return the files of a context with their fates."""
    rules = IgnoreRules(parse(content.encode(), ".dockerignore"))
    selection = Selection(str(top), paths or ("",))
    entries = walk(str(top), rules, selection, counts_all=counts_all)
    return {entry.path: entry.fate for entry in entries if not entry.is_directory}


def sent(top: Path, content: str = "", *paths: str) -> list[str]:
    return sorted(path for path, fate in fates(top, content, *paths).items() if fate == SENT)


@pytest.fixture
def entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the directories that are entered from now on."""
    found: list[str] = []
    scan = os.scandir

    def noted(path: str) -> Any:
        found.append(os.path.relpath(path, tmp_path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", noted)
    return found


# -- which files count


def test_dockerfile_is_found_as_dockers_cli_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dockerfile_of(str(tmp_path)) == f"{tmp_path}/Dockerfile"
    make(tmp_path, "dockerfile", "sub/dockerfile")
    assert dockerfile_of(str(tmp_path)) == f"{tmp_path}/dockerfile"
    assert dockerfile_of("elsewhere", f"{tmp_path}/sub/Dockerfile") == f"{tmp_path}/sub/dockerfile"
    assert dockerfile_of(str(tmp_path), "my.Dockerfile") == "my.Dockerfile"
    monkeypatch.chdir(tmp_path)
    assert dockerfile_of(".", "Dockerfile") == "dockerfile"
    make(tmp_path, "Dockerfile")
    assert dockerfile_of(str(tmp_path)) == f"{tmp_path}/Dockerfile"


def test_ignore_file_of_the_dockerfile_comes_before_that_of_the_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = str(tmp_path / "context")
    make(tmp_path, "context/", "elsewhere/.dockerignore")
    assert ignore_file_of(context, f"{tmp_path}/a.Dockerfile") == ""
    make(tmp_path, "context/.dockerignore")
    assert ignore_file_of(context, f"{tmp_path}/a.Dockerfile") == f"{context}/.dockerignore"
    make(tmp_path, "a.Dockerfile.dockerignore")
    assert ignore_file_of(context, f"{tmp_path}/a.Dockerfile") == f"{tmp_path}/a.Dockerfile.dockerignore"
    # With a Dockerfile from standard input, that of the working directory does not count.
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert ignore_file_of(context) == f"{context}/.dockerignore"


def test_pipe_is_left_for_docker_to_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert content_of(str(tmp_path / "pipe")) is None
    assert content_of(str(tmp_path)) is None
    assert content_of(str(tmp_path / "nothing")) is None


# -- the walk


def test_what_is_ignored_is_not_sent(tmp_path: Path) -> None:
    make(tmp_path, "a.c", "a.o", "sub/b.o", "docs/x", "docs/README.md")
    assert sent(tmp_path, "**/*.o\ndocs\n!docs/README.md") == ["a.c", "docs/README.md"]
    assert fates(tmp_path, "**/*.o\ndocs\n!docs/README.md", counts_all=True)["docs/x"] == IGNORED


def test_ignored_directory_costs_no_walk(tmp_path: Path, entered: list[str]) -> None:
    make(tmp_path, "data/deep/a", "src/b", "src/old/c")
    assert sent(tmp_path, "*\n!src/b") == ["src/b"]
    assert entered == [".", "src"]
    entered.clear()
    assert fates(tmp_path, "*\n!src/b", counts_all=True).keys() == {"data/deep/a", "src/b", "src/old/c"}
    assert len(entered) == 5


def test_only_what_the_dockerfile_copies_is_sent(tmp_path: Path, entered: list[str]) -> None:
    make(tmp_path, "src/a", "src/b", "lib/c", "x.txt", "y.md", "deep/er/d")
    assert sent(tmp_path, "", "src", "*.txt") == ["src/a", "src/b", "x.txt"]
    assert sent(tmp_path, "src/b", "src") == ["src/a"]
    assert sent(tmp_path, "", "deep/*/d") == ["deep/er/d"]
    assert sent(tmp_path, "", "nothing") == []
    assert fates(tmp_path, "", "src", counts_all=True)["lib/c"] == UNUSED
    entered.clear()
    sent(tmp_path, "", "deep/er")
    assert entered == [".", "deep", "deep/er"]


def test_nothing_is_sent_for_a_dockerfile_that_copies_nothing(tmp_path: Path) -> None:
    make(tmp_path, "a")
    entries = [*walk(str(tmp_path), IgnoreRules(), Selection(str(tmp_path), ()))]
    assert [entry.fate for entry in entries] == [UNUSED]


@pytest.mark.parametrize(
    ("link", "target", "path", "expected"),
    [
        ("current", "releases/1", "current", ["current", "releases/1/a"]),
        ("current", "releases/1", "current/a", ["current", "releases/1/a"]),
        ("current", "/releases/1", "current", ["current", "releases/1/a"]),
        ("current", "../../releases/1", "current", ["current", "releases/1/a"]),
        ("current", "nowhere", "current", ["current"]),
        ("current", "current", "current", ["current"]),
        ("current", ".", "current", ["current", "other", "releases/1/a"]),
        ("cur", "releases", "c*r/1", ["cur", "releases/1/a"]),
    ],
)
def test_links_in_what_is_copied_are_followed(
    tmp_path: Path, link: str, target: str, path: str, expected: list[str]
) -> None:
    """As in fsutil's followlinks_test.go."""
    make(tmp_path, "releases/1/a", "other")
    (tmp_path / link).symlink_to(target)
    assert sent(tmp_path, "", path) == expected


def test_sizes_are_those_of_the_content_that_is_sent(tmp_path: Path) -> None:
    make(tmp_path, "a", "sub/")
    (tmp_path / "link").symlink_to("/a/long/way/to/nowhere")
    os.link(tmp_path / "a", tmp_path / "hard")
    os.mkfifo(tmp_path / "pipe")
    os.truncate(tmp_path / "a", 10**9)
    entries = {entry.path: entry.size for entry in walk(str(tmp_path), IgnoreRules(), Selection(str(tmp_path)))}
    assert sorted(entries.values()) == [0, 0, 0, 0, 10**9], "a second hard link is sent without its content"
    assert entries["sub"] == entries["link"] == entries["pipe"] == 0


def test_directory_that_docker_could_not_read_is_an_error_only_if_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "secret/a", "b")
    scan = os.scandir

    def refused(path: str) -> Any:
        if path.rstrip("/").endswith("secret"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert sent(tmp_path, "secret") == ["b"]
    assert fates(tmp_path, "secret", counts_all=True) == {"b": SENT}
    with pytest.raises(PermissionError):
        sent(tmp_path)


def test_names_in_any_encoding_are_matched(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.tmp")).touch()
    make(tmp_path, "café")
    assert sent(tmp_path, "*.tmp") == ["café"]
    assert len(sent(tmp_path, "caf?")) == 1
