"""What command lines ask Docker for."""

from __future__ import annotations

import pytest

from bulkhead.docker.command_lines import BUILD, PULL, parse

from ..global_options import DOUBTFUL, GLOBAL_OPTIONS


def asks_for(words: str) -> str:
    command = parse(words.split())
    return command.does if command else ""


@pytest.mark.parametrize(
    "words",
    [
        "docker build .",
        "/usr/bin/docker --host tcp://h buildx --builder b build .",
        "docker image build .",
        "docker builder build .",
        "docker buildx bake",
        "docker buildx b .",
        "docker buildx f app",
        "docker bake",
        "docker buildx debug --invoke /bin/sh build .",
        "docker buildx dap build .",
        "docker-buildx buildx build .",
        "/usr/libexec/docker/cli-plugins/docker-buildx bake --file - --progress rawjson",  # as compose starts it
        "docker compose --file build.yaml build web",
        "docker --debug compose -f a.yaml up --detach --build",
        "docker compose up --build=true web",
        "docker compose up --build=false --build",
        "docker compose up --watch",
        "docker compose up -w",
        "docker compose create --build",
        "docker compose run --build -e A=b web sh",
        "docker compose watch",
        "/usr/libexec/docker/cli-plugins/docker-compose compose up --build",
        "docker-compose -p mine up --build",
        "docker-compose build",
        "python3 /usr/bin/docker-compose build",
        "/usr/bin/python3.9 -u /usr/bin/docker-compose up --build",
    ],
)
def test_command_line_builds(words: str) -> None:
    assert asks_for(words) == BUILD


@pytest.mark.parametrize(
    "words",
    [
        "docker pull box",
        "/usr/bin/docker -D pull box",
        "docker --host tcp://h image pull box",
        "docker load -i box.tar",
        "docker image import box.tar",
        "docker compose -f c.yml pull",
        "docker-compose pull",
        "docker-compose -p box pull",
        "python3 /usr/bin/docker-compose pull",
    ],
)
def test_command_line_pulls(words: str) -> None:
    assert asks_for(words) == PULL


@pytest.mark.parametrize(
    "words",
    [
        *("docker run --name pull box", "docker ps", "git pull", "docker", "docker exec x load", "make build", ""),
        *("docker --context load run -it box", "docker compose -p load up", "docker compose -f import up -d"),
        *("docker-compose -p pull up", "docker run --rm box npm run build", "docker run box configure --build"),
        *("docker compose up build", "docker --context build compose --profile build up", "docker stats build"),
        *("docker compose up --build=false", "docker compose up --build --build=0", "docker compose bake"),
        *("docker compose run web configure --build", "docker compose run -e A=b web make --build"),
        *("docker buildx du", "docker buildx history import x", "docker buildx dap attach x", "docker buildx debug"),
        *("docker debug build", "docker buildx --builder build ls", "docker builder prune", "docker buildx create b"),
        *("podman build .", "podman-compose build", "buildah build .", "nerdctl build ."),
        *("python3 build.py", "python3 /usr/bin/docker-compose logs build", "python3"),
        "docker compose run -w /srv web sh",
        "python3 -c docker-compose build",
    ],
)
def test_command_line_asks_for_neither(words: str) -> None:
    assert asks_for(words) == ""


@pytest.mark.parametrize("words", GLOBAL_OPTIONS)
def test_build_is_known_whatever_stands_before_the_command(words: str) -> None:
    assert asks_for(f"{words} build web") == BUILD


@pytest.mark.parametrize("words", DOUBTFUL)
def test_option_that_is_not_known_counts_as_one_without_a_value(words: str) -> None:
    assert asks_for(f"{words} build web") == BUILD


@pytest.mark.parametrize(
    ("words", "stays"),
    [
        ("docker compose up --build", True),
        ("docker-compose up -d --build", True),
        ("docker compose watch", True),
        ("docker compose run --build web", True),
        ("docker compose build", False),
        ("docker compose pull", False),
        ("docker-buildx bake", False),
        ("docker build .", False),
    ],
)
def test_compose_that_starts_containers_is_known(words: str, stays: bool) -> None:
    command = parse(words.split())
    assert command
    assert command.stays == stays


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("docker build -H x .", {}),  # not an option of the command
        ("docker -H tcp://h build .", {"--host": "tcp://h"}),
        ("docker -Htcp://h build .", {"--host": "tcp://h"}),
        ("docker -DH=tcp://h build .", {"--host": "tcp://h"}),
        ("docker --host=tcp://h pull x", {"--host": "tcp://h"}),
        ("docker -c far --config /etc/far build .", {"--context": "far", "--config": "/etc/far"}),
        ("docker --context=far compose build", {"--context": "far"}),
        ("docker buildx --builder far build .", {"--builder": "far"}),
        ("docker buildx build -t a --builder=far .", {"--builder": "far"}),
        ("docker build -c 512 --builder far .", {"--builder": "far"}),
    ],
)
def test_options_that_choose_the_engine_are_found(words: str, options: dict[str, str]) -> None:
    command = parse(words.split())
    assert command
    assert command.options == options
