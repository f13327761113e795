"""Copies of a store that are exact: rsync, with everything that overlay2 needs, and what checks it."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path

from bulkhead.errors import Problem
from bulkhead.sizes import human

# -H hard links, -A ACLs, -X extended attributes (trusted.overlay.* as root), -S sparse files; -x leaves out what is
# mounted in the tree: live overlays. rsync compares whole seconds unless the window is -1.
_RSYNC = ("rsync", "-aHAXSx", "--numeric-ids", "--delete", "--modify-window=-1")
_PARTIAL = 23  # rsync: some of it was not transferred
_VANISHED = 24  # rsync: files went away while it read. While they are in use, they do
_ATTEMPTS = 3
_POLITE = ("nice", "-n", "10", "ionice", "-c", "2", "-n", "7")
_CLOCK_GRAIN = 1  # second; what a filesystem's clock may be behind the system's
_REPORT_EVERY = 5  # seconds
_BLOCK = 2**20
Report = Callable[[int, str], None]  # bytes copied, rsync's rate


class CopyError(Problem):
    """The copy did not come about, or is not what it should be."""


def immutable_layers(store: str) -> set[str]:
    """Directories of a store, relative to it, whose content is never written again once it is complete.

    Those of overlay2's image layers: Docker lists a layer here when it is complete, and containers and builds write to
    directories of their own (moby, layer/filestore.go). Beside a layer's files it does write: `committed`, when a
    container or a further layer is made on it (daemon/graphdriver/overlay2/overlay.go).
    """
    found = set()
    for listing in Path(store).glob("image/overlay2/layerdb/sha256/*/cache-id"):
        try:
            found.add(f"overlay2/{listing.read_text().strip()}/diff")
        except FileNotFoundError:  # removed since
            continue
    return {directory for directory in found if (Path(store) / directory).is_dir()}


def size_of(path: str) -> int:
    """Bytes that a tree takes on its filesystem."""
    done = subprocess.run(["du", "-sx", "--block-size=1", path], capture_output=True, text=True, check=False)
    return int(done.stdout.split()[0]) if done.stdout else 0


def progress(say: Callable[[str], None], total: int) -> Report:
    """A report that says every few seconds how far a copy of ``total`` bytes is, and how long it will take."""
    began = last = time.monotonic()

    def report(done: int, rate: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > _REPORT_EVERY and done:
            last = now
            left = max(total - done, 0) / done * (now - began)
            say(f"  {human(done)} of about {human(total)}, {rate}, about {timedelta(seconds=round(left))} left")

    return report


def copy(source: str, target: str, report: Report, exclude: Iterable[str] = (), *, polite: bool = False) -> None:
    """Make ``target`` what ``source`` is, and have it on disk.

    Args:
        report: is told how far it is.
        exclude: directories, relative to the source, that are neither copied nor removed.
        polite: leave disk and processor to others, and take no offence at files that change or go meanwhile.

    Raises:
        CopyError: rsync failed.
    """
    for _ in range(_ATTEMPTS if polite else 1):
        code, said = _rsync(source, target, report, exclude, polite=polite)
        if code != _PARTIAL:  # as when a file is truncated while it is read
            break
    if code and not (polite and code == _VANISHED):
        raise CopyError(f"rsync from {source} ended with {code}: {'; '.join(said[-5:])}")
    subprocess.run(["sync", "-f", target], check=True)


def _rsync(source: str, target: str, report: Report, exclude: Iterable[str], *, polite: bool) -> tuple[int, list[str]]:
    """rsync's exit code and complaints."""
    words = [*(_POLITE if polite else ()), *_RSYNC, "--info=progress2", "--exclude-from=-", f"{source}/", f"{target}/"]
    with tempfile.TemporaryFile("w+", errors="surrogateescape") as errors, tempfile.TemporaryFile("w+") as left_out:
        left_out.write(_patterns(exclude))
        left_out.seek(0)
        process = subprocess.Popen(
            words, stdin=left_out, stdout=subprocess.PIPE, stderr=errors, text=True, env=_environment()
        )
        assert process.stdout
        # A line ends with a carriage return; text mode makes a newline of it.
        for line in process.stdout:
            if match := re.match(r"\s*([\d,]+)\s+\d+%\s+(\S+)", line):
                report(int(match[1].replace(",", "")), match[2])
        code = process.wait()
        errors.seek(0)
        return code, errors.read().strip().splitlines()


def compare(source: str, target: str, exclude: Iterable[str] = ()) -> set[str]:
    """Compare every file with its copy, byte by byte as both are on disk, and copy again what differs.

    Returns:
        Files, relative to the source, that differed: they have changed since they were copied, or the copy was bad.
        Nothing has compared them since.

    Raises:
        CopyError: rsync failed.
    """
    _forget(target)
    done = subprocess.run(
        [*_POLITE, *_RSYNC, "--checksum", "--out-format=%i %n", "--exclude-from=-", f"{source}/", f"{target}/"],
        input=_patterns(exclude),
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env=_environment(),
    )
    if done.returncode not in (0, _VANISHED):
        raise CopyError(f"rsync ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    subprocess.run(["sync", "-f", target], check=True)
    return {_unescaped(line[12:]) for line in done.stdout.splitlines() if line.startswith(">f")}


def _unescaped(name: str) -> str:
    r"""A name as rsync prints it: what cannot be printed as a backslash, # and three octal digits (rsync(1))."""
    raw = name.encode(errors="surrogateescape")
    return re.sub(rb"\\#([0-7]{3})", lambda match: bytes([int(match[1], 8)]), raw).decode(errors="surrogateescape")


def moment() -> float:
    """Now, in seconds since the epoch, early enough that no later change of a file has an earlier ctime."""
    return time.time() - _CLOCK_GRAIN


def changed(source: str, since: float, exclude: Iterable[str] = ()) -> Iterator[os.DirEntry[str]]:
    """What was changed in a tree at or after a moment, by the ctime, which nobody can set; or went as it was looked at.

    Args:
        since: seconds since the epoch.
        exclude: directories, relative to the source, that are left out.
    """
    left_out = {os.path.join(source, directory) for directory in exclude}
    directories: list[os.DirEntry[str] | None] = [None]
    while directories:
        within = directories.pop()
        try:
            entries = list(os.scandir(within or source))
        except (FileNotFoundError, NotADirectoryError):
            if within is None:
                raise
            yield within
            continue
        for entry in entries:
            if entry.path in left_out:
                continue
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry)
            try:
                is_changed = entry.stat(follow_symlinks=False).st_ctime >= since
            except FileNotFoundError:
                is_changed = True
            if is_changed:
                yield entry


def changed_files(source: str, since: float, exclude: Iterable[str] = ()) -> list[str]:
    """The files, relative to the source, whose content may have changed at or after a moment."""
    files = (entry for entry in changed(source, since, exclude) if entry.is_file(follow_symlinks=False))
    return [os.path.relpath(entry.path, source) for entry in files]


def to_be_verified(source: str, since: float, suspects: Iterable[str], exclude: Iterable[str] = ()) -> list[str]:
    """Files that the last copy has to take anew: those that have changed since, and those of ``compare``."""
    there = {name for name in suspects if stat.S_ISREG(_mode(os.path.join(source, name)))}
    return sorted({*changed_files(source, since, exclude), *there})


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def distrust(target: str, files: Iterable[str]) -> None:
    """Have the next copy take these files anew, whatever their size and time say."""
    top = os.path.realpath(target)
    for name in files:
        path = os.path.join(target, name)
        # Where a directory was a link when it was copied, the path leads out of the copy.
        parent = os.path.join(top, os.path.dirname(name))
        if os.path.lexists(path) and os.path.realpath(parent) == os.path.normpath(parent):
            os.utime(path, (0, 0), follow_symlinks=False)


def verify(source: str, target: str, files: Iterable[str], exclude: Iterable[str]) -> None:
    """See that nothing changes any more: the trees are equal, and these files byte by byte.

    Raises:
        CopyError: they are not; some of the differences are in the message.
    """
    different = _differences(source, target, exclude)
    for name in files:
        _forget_file(os.path.join(target, name))
        if not _is_same(os.path.join(source, name), os.path.join(target, name)):
            different.append(name)
    if different:
        raise CopyError(f"the copy of {source} differs in {len(different)} places: {'; '.join(different[:5])}")


def _differences(source: str, target: str, exclude: Iterable[str]) -> list[str]:
    """What rsync would change, an item a line."""
    done = subprocess.run(
        [*_RSYNC, "--dry-run", "--out-format=%i %n%L", "--exclude-from=-", f"{source}/", f"{target}/"],
        input=_patterns(exclude),
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env=_environment(),
    )
    if done.returncode:
        raise CopyError(f"rsync ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout.splitlines()


def _is_same(one: str, other: str) -> bool:
    try:
        with open(one, "rb") as first, open(other, "rb") as second:
            while block := first.read(_BLOCK):
                if second.read(_BLOCK) != block:
                    return False
            return not second.read(1)
    except OSError:
        return False


def _patterns(exclude: Iterable[str]) -> str:
    return "".join(f"/{directory}/\n" for directory in exclude)


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def _forget(tree: str) -> None:
    """Have the files of a tree read from the disk the next time, not from memory."""
    for directory, _, names in os.walk(tree):
        for name in names:
            _forget_file(os.path.join(directory, name))


def _forget_file(path: str) -> None:
    if not stat.S_ISREG(_mode(path)):  # to open a pipe or a device may do something
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
