"""Build an image with and without lines of a .dockerignore, and compare the two."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.dockerfile import patterns
from bulkhead.dockerfile.ignore import IgnoreRules
from bulkhead.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# What a build writes anew each time, and no two builds the same: logs, bytecode with the time of its source, caches.
_ANEW = re.compile(
    r"\.pyc$|^(tmp|var/log|var/tmp|var/cache|run)/|^(root|home/[^/]+)/\.(cache|npm)/|^etc/ld\.so\.cache$|^var/lib/(apt|dpkg)/|/_logs/"
)
_BLOCK = 2**20  # bytes that are read at once


class Proof(NamedTuple):
    """How two images differ."""

    files: int  # in the image as it is now
    named: tuple[str, ...]  # only in that one, and named by the lines
    saved: int  # bytes of these
    differences: tuple[str, ...]  # everything else that differs
    anew: int  # files that differ, and that each build writes anew
    failure: str = ""  # why there is no second image

    @property
    def holds(self) -> bool:
        return not (self.differences or self.failure)


class Inode(NamedTuple):
    """A file in an image."""

    size: int
    digest: bytes  # of what it is and has, without its times


def prove(
    context: str, dockerfile: bytes, before: bytes, after: bytes, sources: Sequence[str], arguments: Sequence[str]
) -> Proof:
    """Build an image with the present .dockerignore and with the proposed one, and compare. Leave nothing behind.

    Args:
        context: the directory.
        dockerfile: its content.
        before: content of the present .dockerignore.
        after: content of the proposed one.
        sources: directories of the context that the Dockerfile copies.
        arguments: for `docker build`.

    Raises:
        Failed: the image cannot be built as it is.
    """
    names = [f"bulkhead-proof:{os.getpid()}-{name}" for name in ("before", "after")]
    try:
        with tempfile.TemporaryDirectory(prefix="bulkhead-") as directory:
            for place, (name, ignore) in enumerate(zip(names, (before, after), strict=True)):
                if not _build(directory, name, context, dockerfile, ignore, arguments):
                    if place == 0:
                        raise Failed("the image cannot be built as it is: docker says why. Nothing was compared")
                    return Proof(0, (), 0, (), 0, "without what the lines name, the build fails: docker says why")
        images = [dict(_inodes(name)) for name in names]
    finally:
        for name in names:
            # By its name: an image that has another one stays.
            _docker("image", "rm", name, check=False)
    rules = [IgnoreRules(patterns.parse(content, ".dockerignore")) for content in (before, after)]
    return compare(context, images[0], images[1], rules[0], rules[1], sources)


def compare(
    context: str,
    before: dict[str, Inode],
    after: dict[str, Inode],
    old: IgnoreRules,
    new: IgnoreRules,
    sources: Sequence[str],
) -> Proof:
    """Compare two images.

    Args:
        before: the files of the image that was built with the old rules.
        after: those of the other one.
    """
    differing = [path for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
    named, differences, anew = [], [], 0
    for path in sorted(differing):
        if path not in after and _is_named(context, path, old, new, sources):
            named.append(path)
        elif _ANEW.search(path):
            anew += 1
        else:
            how = "is missing" if path not in after else "is new" if path not in before else "differs"
            differences.append(f"/{path} {how}")
    saved = sum(before[path].size for path in named)
    return Proof(len(before), tuple(named), saved, tuple(differences), anew)


def _is_named(context: str, path: str, old: IgnoreRules, new: IgnoreRules, sources: Sequence[str]) -> bool:
    """Return whether a path in an image is that of something in the context that only the new rules take out."""
    parts = path.split("/")
    for place in range(len(parts)):
        for source in ("", *sources):
            wanted = os.path.join(source, *parts[place:])
            if os.path.lexists(os.path.join(context, wanted)) and new.is_ignored(wanted) and not old.is_ignored(wanted):
                return True
    return False


def _build(directory: str, name: str, context: str, dockerfile: bytes, ignore: bytes, arguments: Sequence[str]) -> bool:
    """Build an image, and return whether that succeeded. docker's output goes to standard error."""
    path = os.path.join(directory, "Dockerfile")
    # BuildKit takes the .dockerignore beside the Dockerfile, and not the context's. An empty one would not count.
    for file, content in ((path, dockerfile), (f"{path}.dockerignore", ignore or b"#\n")):
        with open(file, "wb") as output:
            output.write(content)
    sys.stderr.flush()
    command = ["docker", "build", "--file", path, "--tag", name, *arguments, context]
    done = subprocess.run(command, env=_environment(), stdout=sys.stderr.fileno(), check=False)
    return done.returncode == 0


def _environment() -> dict[str, str]:
    return {**os.environ, "DOCKER_BUILDKIT": "1"}


def _docker(*words: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *words], env=_environment(), capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise Failed(f"`docker {words[0]}` failed: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def _inodes(image: str) -> Iterator[tuple[str, Inode]]:
    # A container that never runs: an image without a command needs one all the same.
    container = _docker("create", image, "bulkhead")
    try:
        with (
            subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as exported,
            tarfile.open(fileobj=exported.stdout, mode="r|") as archive,
        ):
            for member in archive:
                yield member.name.removeprefix("./"), _inode(archive, member)
        if exported.returncode:
            raise Failed(f"`docker export` ended with the exit code {exported.returncode}")
    except tarfile.TarError as error:
        raise Failed(f"what `docker export` wrote cannot be read: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            _docker("rm", container, check=False)


def _inode(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Inode:
    what = (member.type, member.mode, member.uid, member.gid, member.linkname, member.devmajor, member.devminor)
    digest = hashlib.sha256(repr(what).encode(errors="surrogateescape"))
    if file := archive.extractfile(member) if member.isreg() else None:
        while block := file.read(_BLOCK):
            digest.update(block)
    return Inode(member.size, digest.digest())
