"""Say what helps on a volume that is full or has few inodes left: what can be reclaimed, or else what fills it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bulkhead import systemd
from bulkhead.names import DOCKER
from bulkhead.storage.space import space_of
from bulkhead.text import short

if TYPE_CHECKING:
    from bulkhead.config import Config
    from bulkhead.docker.usage import Usage
    from bulkhead.storage.space import Space

_PATIENCE = 60  # seconds for Docker to list what can be reclaimed, and what there is
_NAME = 40  # characters of the name of something reclaimable
_NAMED = 5  # reclaimable items
_LEAST = 64 * 2**20  # bytes: less is not worth a command
_UNKNOWN_PART = 5  # percent of the volume that may be neither of what Docker counts: the filesystem's own, the ballast
_EASE = 5  # percentage points below its threshold at which a warning ends
_DETAILS = "Details: `bulkhead status`"


class DockersAnswer(NamedTuple):
    """What Docker says about its volume."""

    silence: str = ""  # why it says nothing
    reclaimable: tuple[tuple[str, int], ...] = ()  # name, bytes; the largest first
    usage: Usage | None = None  # None: it takes too long to count


def way_out(config: Config) -> str:
    """Return what helps, in lines. Do not wait long for a hung Docker."""
    import threading

    answers = [DockersAnswer(silence="Docker does not answer")]
    asking = threading.Thread(target=_ask, args=(config, answers), daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    try:
        space = space_of(config.volume_mount)
    except OSError:
        return _DETAILS
    return advice(config, space, answers[-1])


def _ask(config: Config, answers: list[DockersAnswer]) -> None:
    from bulkhead.docker import usage
    from bulkhead.docker.engine import Engine
    from bulkhead.errors import PROBLEMS

    try:
        # Leave its socket alone while Docker does not run: systemd would start it.
        if not systemd.is_running(DOCKER, 10):
            answers.append(DockersAnswer(silence="Docker does not run"))
            return
        answers.append(DockersAnswer(reclaimable=tuple(usage.reclaimable(Engine(), config.prune_keep))))
        answers.append(answers[-1]._replace(usage=usage.usage(Engine())))
    except PROBLEMS:
        return


def advice(config: Config, space: Space, docker: DockersAnswer) -> str:
    """Return what helps, in lines."""
    if docker.silence:
        return f"Reclaimable: unknown, {docker.silence}. `bulkhead rescue --dry-run` shows what would bring it back. {_DETAILS}"
    whole, available = space.used + space.available, space.available
    wanted = enough(whole, config.check_threshold)
    total = sum(size for _, size in docker.reclaimable)
    names = ", ".join(f"{name[-_NAME:]} {short(size)}" for name, size in docker.reclaimable[:_NAMED])
    lines = [f"Reclaimable: {names if total >= _LEAST else 'nothing worth it'}."]
    is_short_of_inodes = space.inodes_percent >= config.check_threshold - _EASE
    if is_short_of_inodes:
        lines.append(f"Inodes: {space.inodes_free} of {space.inodes} are free. Each file takes one.")
    if total >= _LEAST:
        # Where bytes are not what is missing, the build cache is the least that is lost.
        cache = dict(docker.reclaimable).get("build cache", 0)
        some = cache if available >= wanted and cache >= _LEAST else total
        # A tenth less than what can be had: the volume may go on filling until somebody reads this.
        need = wanted if available < wanted <= available + total * 9 // 10 else available + some * 9 // 10
        lines.append(f"Reclaim it: `bulkhead reclaim --need {_as_option(need)}`.")
    if total < _LEAST or available + total * 9 // 10 < wanted:
        lines += _elsewhere(config, space, docker.usage, is_short_of_inodes)
    return "\n".join([*lines, _DETAILS])


def _elsewhere(config: Config, space: Space, usage: Usage | None, is_short_of_inodes: bool) -> list[str]:
    """Return what fills the volume beside what can be reclaimed, and what helps."""
    lines = []
    if usage:
        kinds = {
            "images": usage.images,
            "build cache": usage.build_cache,
            "containers": usage.containers,
            "volumes": usage.volumes,
            "logs": usage.logs,
        }
        largest = sorted((kind for kind in kinds if kinds[kind] >= _LEAST), key=lambda kind: kinds[kind], reverse=True)
        lines.append(f"It holds {', '.join(f'{kind} {short(kinds[kind])}' for kind in largest) or 'little of Docker'}.")
        rest = space.used - sum(kinds.values())
        if rest > space.size * _UNKNOWN_PART // 100:
            lines.append(f"{short(rest)} are neither images, build cache, containers, volumes nor logs.")
    where = largest_directories(config.volume_mount, of_inodes=is_short_of_inodes)
    lines.append(f"Where it is: `{where}`. Remove what nobody needs, or {config.way_to_grow}.")
    return lines


def largest_directories(mount: str, *, of_inodes: bool) -> str:
    """Return a command that shows the directories that hold most.

    >>> largest_directories("/srv/docker-volume", of_inodes=True)
    'du --inodes -x --max-depth=2 /srv/docker-volume | sort -n | tail'
    """
    return f"du {'--inodes -x' if of_inodes else '-xm'} --max-depth=2 {mount} | sort -n | tail"


def enough(whole: int, warning: int) -> int:
    """Return the free bytes that end a warning, in whole GiB.

    >>> enough(60 * 2**30, 80) // 2**30
    15
    """
    return -(-whole * (100 + _EASE - warning) // (100 * 2**30)) * 2**30


def _as_option(size: int) -> str:
    """
    >>> _as_option(15 * 2**30), _as_option(15 * 2**30 + 1), _as_option(2**30 - 1)
    ('15G', '15360M', '1023M')
    """
    return f"{size // 2**20}M" if size % 2**30 else f"{size // 2**30}G"
