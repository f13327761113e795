"""Beginnings of command lines with the options that docker, compose and buildx take before a command.

From docker/cli (docs/reference/commandline/docker.md, cli/cobra.go), docker/compose (docs/reference/compose.md and, for hidden
ones, cmd/compose/compose.go), docker/buildx (docs/reference/buildx.md, buildx_debug.md), and the first docker-compose (1.29).
"""

from __future__ import annotations

_DOCKER = (
    *(
        "--config dir",
        "--config=dir",
        "-c default",
        "-c=default",
        "--context default",
        "-D",
        "--debug",
        "--debug=false",
    ),
    *("-H unix:///run/docker.sock", "-Hunix:///run/docker.sock", "--host=unix:///run/docker.sock", "-l debug"),
    *("--log-level error", "--tls", "--tlscacert ca.pem", "--tlscert cert.pem", "--tlskey key.pem", "--tlsverify"),
    *("--tlsverify=true", "-D=true", "-Dl debug", "-h", "--help", "-v", "--version"),
)
_COMPOSE = (
    *("--all-resources", "--ansi never", "--compatibility", "--dry-run", "--env-file other.env", "-f a.yml", "-fa.yml"),
    *(
        "--file a.yml",
        "--parallel 4",
        "--profile gpu",
        "--progress plain",
        "--project-directory dir",
        "-p mine",
        "-pmine",
    ),
    *("--project-name=mine", "--verbose", "--no-ansi", "--insecure-registry registry:5000", "--workdir dir"),
)
_FIRST_COMPOSE = ("--skip-hostname-check", "-c default", "-H unix:///run/docker.sock", "--log-level ERROR", "--tls")
_BUILDX = ("--builder default", "--builder=default", "-D", "--debug")
_DEBUGGER = (
    "--invoke sh",
    "--on always",
    "--progress plain",
    "--detach",
    "--detach=false",
    "--root dir",
    "--server-config a",
)

GLOBAL_OPTIONS = (
    *(f"docker {option}" for option in _DOCKER),
    *(f"docker {option} compose" for option in _DOCKER),
    *(f"docker compose {option}" for option in _COMPOSE),
    *(f"docker-compose {option}" for option in (*_COMPOSE, *_FIRST_COMPOSE)),
    *(f"docker buildx {option}" for option in _BUILDX),
    *(f"docker buildx debug {option}" for option in _DEBUGGER),
    "docker --debug compose --verbose -f a.yml --env-file other.env",
)

# With an option of tomorrow, which may take the next word.
DOUBTFUL = (
    "docker compose --tomorrow",
    "docker compose -x",
    "docker buildx --tomorrow",
    "docker --debug compose --tomorrow",
)
