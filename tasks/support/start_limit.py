"""How long Docker may take to start, in the shell scripts of a run. bulkhead.docker.start decides the same on the host."""

from __future__ import annotations

from bulkhead.names import DOCKER_START_LIMIT, DOCKER_START_PER_CONTAINER, DOCKER_STORE


def start_limit(setting: int | None) -> str:
    """Return the seconds as a word of shell, for use within double quotes.

    Args:
        setting: docker_start_limit; None: "auto", which follows from the number of containers.
    """
    if setting:
        return str(setting)
    count = f"$(ls {DOCKER_STORE}/containers 2>/dev/null | wc -l)"
    return (
        f"$(seconds=$(({DOCKER_START_PER_CONTAINER} * {count})); "
        f"echo $((seconds > {DOCKER_START_LIMIT} ? seconds : {DOCKER_START_LIMIT})))"
    )
