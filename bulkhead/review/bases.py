"""Rules about base images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulkhead.review.instead import with_base
from bulkhead.review.model import INFO, WARNING, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulkhead.dockerfile.stages import Stage
    from bulkhead.review.model import Image, ImageFinding


def base_latest(image: Image) -> Iterator[ImageFinding]:
    """Find base images that are another one tomorrow."""
    for stage in _bases(image):
        repository, _, tag = _split(stage.base)
        if tag in ("", "latest"):
            yield RULES[0].finding(
                stage.origin,
                f"{stage.base} is whatever is newest on the day of the build",
                instead=with_base(stage.origin, f"{repository}:VERSION"),
            )


def base_without_digest(image: Image) -> Iterator[ImageFinding]:
    """Find base images whose tag can move to another image."""
    for stage in _bases(image):
        if _split(stage.base)[2] not in ("", "latest"):
            yield RULES[1].finding(
                stage.origin,
                f"The tag of {stage.base} can move to another image: the next build may get a different base",
                instead=f"# docker buildx imagetools inspect {stage.base}\n{with_base(stage.origin, stage.base + '@sha256:DIGEST')}",
            )


def _bases(image: Image) -> list[Stage]:
    """Return the stages that begin with an image of no digest: for each image the first one."""
    stages = {each.base: each for each in reversed(image.inputs.stages) if each.base and "@" not in each.base}
    return sorted(stages.values(), key=lambda stage: stage.origin.line)


def _split(image: str) -> tuple[str, str, str]:
    """
    >>> _split("registry:5000/a/b:1"), _split("registry:5000/a")
    (('registry:5000/a/b', ':', '1'), ('registry:5000/a', '', ''))
    """
    head, slash, last = image.rpartition("/")
    name, colon, tag = last.partition(":")
    return head + slash + name, colon, tag


RULES = (
    Rule("base-latest", WARNING, "A base image has no version", base_latest, same=("DL3006", "DL3007")),
    Rule("base-without-digest", INFO, "A base image is not pinned by its digest", base_without_digest),
)
