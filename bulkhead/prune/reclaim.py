"""Make room on Docker's volume: plan first, refuse what cannot be had, ask, and then remove."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulkhead.docker.engine import Engine
from bulkhead.errors import Failed
from bulkhead.outage import lock
from bulkhead.outage.prompt import consents
from bulkhead.prune import attempt
from bulkhead.prune.pruner import Pruner
from bulkhead.sizes import human
from bulkhead.text import count

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from bulkhead.config import Config

_MIB = 2**20
_MARGIN = 50  # the figure that is advised leaves out one in so many bytes: Docker counts files, and not what disks need for them


def reclaim(config: Config, options: argparse.Namespace, say: Callable[[str], None]) -> Pruner | None:
    """Remove what `bulkhead reclaim` is asked for; in a dry run, plan it.

    Args:
        options: `need` may be None: then only anonymous volumes are removed.

    Returns:
        The pruner that has done it; None if the person at the terminal does not want it.

    Raises:
        Failed: what is needed cannot be had, nobody can be asked, Docker does not run, or something else is in the way.
        ValueError: the journal of a move or a rollback cannot be read.
    """
    asks = not (options.dry_run or options.yes)
    if asks and options.json:
        raise Failed("--json asks nothing; pass --yes, or --dry-run")
    attempt.refuse_without_docker()
    lock.refuse_unfinished()
    plan = Pruner(config, Engine(), say if asks or options.dry_run else _silently, dry_run=True, need=options.need)
    _remove(plan, options)
    _refuse_in_vain(plan, options)
    if options.dry_run:
        return plan
    if not plan.removed:
        if plan.failed:
            raise Failed(f"Nothing was removed. Docker did not tell everything: {'; '.join(plan.failed)}")
        return Pruner(config, Engine(), say, need=options.need)
    what = f"{count(len(plan.removed), 'object')} would be removed, with {human(plan.freed())}."
    if not consents(options, what):
        return None
    with attempt.alone(), lock.alone():
        pruner = Pruner(config, Engine(), say, need=options.need)
        if asks:
            pruner.agreed = {removal.id for removal in plan.removed}
        _remove(pruner, options)
    return pruner


def _silently(_: str) -> None:
    """Say nothing of a plan that nobody is asked about."""


def _remove(pruner: Pruner, options: argparse.Namespace) -> None:
    if pruner.is_enough():
        return
    if pruner.need is None:
        pruner.climb([pruner.idle_volumes])
    elif options.volumes:
        pruner.reclaim_with_volumes()
    else:
        pruner.reclaim()


def _refuse_in_vain(plan: Pruner, options: argparse.Namespace) -> None:
    """
    Raises:
        Failed: less can be had than is needed.
    """
    free = plan.free()
    if plan.need is None or free >= plan.need:
        return
    mount = plan.config.volume_mount
    lines = [f"{human(plan.need)} are needed on {mount}, and at most {human(free)} can be had. Nothing was removed."]
    if plan.failed:
        lines.append(f"Docker did not tell everything: {'; '.join(plan.failed)}.")
    if plan.hindrance:
        lines.append(f"{plan.hindrance[0].upper()}{plan.hindrance[1:]}.")
    if plan.removed:
        volumes = " --volumes" if options.volumes else ""
        figure = (free - plan.freed() // _MARGIN) // _MIB
        lines.append(f"Take what can be had: `bulkhead reclaim{volumes} --need {figure}M`.")
    lines.append(
        "The rest is in use, or your settings or labels keep it: `bulkhead status` shows what fills the volume. More space: "
        f"{plan.config.way_to_grow}"
    )
    raise Failed(" ".join(lines))
