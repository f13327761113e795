"""The command line of a build."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead.build.arguments import Arguments
from bulkhead.errors import Problem

from ..global_options import DOUBTFUL, GLOBAL_OPTIONS


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
    assert arguments.options.build_args == {"A": "1=2", "HERE": "there"}
    assert Arguments.of(["-q", "."]).progress == "quiet"


def test_options_that_the_dockerfile_is_read_with_are_read() -> None:
    words = "buildx build --target=dev --build-context a=b --build-context c=docker-image://d --platform linux/arm64,linux/amd64 ."
    options = Arguments.of(["docker", *words.split()]).options
    assert (options.target, options.platform) == ("dev", "linux/arm64")
    assert options.contexts == {"a": "b", "c": "docker-image://d"}


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


@pytest.mark.parametrize(
    ("words", "kind", "key"),
    [
        ("docker build -t app:1 .", "build", "app"),
        ("docker --debug buildx build -t app .", "build", "app"),
        ("docker buildx b -t app .", "build", "app"),
        ("docker image build -t app .", "build", "app"),
        ("/usr/bin/docker builder build -t app .", "build", "app"),
        ("docker-buildx build -t app .", "build", "app"),
        ("docker compose build", "compose", "compose build in {here}"),
        ("docker compose -f a.yml build --no-cache web db", "compose", "compose build -f a.yml web db in {here}"),
        ("docker compose --project-directory sub build --build-arg T=1", "compose", "compose build in {here}/sub"),
        ("docker compose --workdir sub build", "compose", "compose build in {here}/sub"),
        ("docker compose -fa.yml -pmine build web", "compose", "compose build -f a.yml web in {here}"),
        ("docker buildx bake --list-targets app", "bake", "bake app in {here}"),
        ("docker-compose build web", "compose", "compose build web in {here}"),
        ("docker buildx bake", "bake", "bake in {here}"),
        ("docker buildx bake -f hcl --set *.args.TOKEN=x all", "bake", "bake -f hcl all in {here}"),
        ("docker buildx bake https://me:token@host/app.git", "bake", "bake https://host/app.git in {here}"),
        ("docker -c default --tls build -t app .", "build", "app"),
    ],
)
def test_command_of_docker_that_builds_runs_unchanged_and_has_a_key(
    words: str, kind: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = Arguments.of(words.split())
    assert (arguments.kind, arguments.key) == (kind, key.format(here=tmp_path))
    assert arguments.command == tuple(words.split())


@pytest.mark.parametrize("words", GLOBAL_OPTIONS)
def test_command_is_found_whatever_stands_before_it(words: str) -> None:
    arguments = Arguments.of(f"{words} build web".split())
    assert arguments.command == (*words.split(), "build", "web")
    assert (arguments.kind, arguments.context, arguments.targets) in (("build", "web", ()), ("compose", "", ("web",)))


@pytest.mark.parametrize("words", DOUBTFUL)
def test_option_before_the_command_that_may_have_a_value_is_refused_by_its_name(words: str) -> None:
    option = words.split()[-1]
    with pytest.raises(
        Problem, match=f"^the option {option} before the command is not known, .*write {option}=VALUE, or"
    ):
        Arguments.of(f"{words} build run".split())
    for value in ("VALUE", "true"):
        assert Arguments.of(f"{words}={value} build run".split()).context in ("", "run")


@pytest.mark.parametrize(
    "words",
    ["docker", "docker -t app", "docker -t build", "docker -f docker/Dockerfile", "docker -f F -t app", ". -t docker"],
)
def test_context_that_is_called_docker_is_still_a_context(words: str) -> None:
    arguments = Arguments.of(words.split())
    assert arguments.command == ("docker", "build", *words.split())
    assert arguments.context == words.split()[0]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("docker compose up --build", "docker compose up"),
        ("docker run app", "docker run app"),
        ("docker buildx prune", "docker buildx prune"),
        ("docker compose bake", "docker compose bake"),
        ("docker debug build", "docker debug build"),
        ("docker --debug run app", "docker --debug run"),
    ],
)
def test_command_of_docker_that_does_more_than_build_is_refused(words: str, named: str) -> None:
    with pytest.raises(
        Problem, match=f"^`{named}` does more than build. What can be guarded: docker build, docker buildx"
    ):
        Arguments.of(words.split())


@pytest.mark.parametrize(
    ("words", "progress"),
    [
        ("docker compose --progress plain build", "plain"),
        ("docker compose build -q", "quiet"),
        ("docker buildx bake --progress=rawjson", "rawjson"),
    ],
)
def test_progress_of_compose_and_bake_is_read(words: str, progress: str) -> None:
    assert Arguments.of(words.split()).progress == progress
