"""Make exact copies of trees with rsync, with everything that overlay2 needs, and verify them."""

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

# -H hard links, -A ACLs, -X extended attributes (trusted.overlay.* as root), -S sparse files; -x leaves out mounts in
# the tree, such as the overlays of running containers. rsync compares whole seconds unless the window is -1.
_RSYNC = ("rsync", "-aHAXSx", "--numeric-ids", "--delete", "--modify-window=-1")
_PARTIAL = 23  # rsync: some files were not transferred
_VANISHED = 24  # rsync: files were removed while it read. This is normal in a tree that is in use
_ATTEMPTS = 3
_POLITE = ("nice", "-n", "10", "ionice", "-c", "2", "-n", "7")
_CLOCK_GRAIN = 1  # seconds by which a filesystem's clock may lag the system's
_REPORT_EVERY = 5  # seconds
_BLOCK = 2**20
Report = Callable[[int, str], None]  # bytes copied, rsync's rate


class CopyError(Problem):
    """The copy failed, or differs from its source."""


def immutable_layers(store: str) -> set[str]:
    """Return the directories of a store, relative to it, that nobody writes to any more.

    They are those of overlay2's image layers. Docker lists a layer when it is complete, and containers and builds write
    to directories of their own (moby, layer/filestore.go). Docker does write beside a layer's files: `committed`, when
    a container or another layer is made on it (daemon/graphdriver/overlay2/overlay.go).
    """
    found = set()
    for listing in Path(store).glob("image/overlay2/layerdb/sha256/*/cache-id"):
        try:
            found.add(f"overlay2/{listing.read_text().strip()}/diff")
        except FileNotFoundError:  # the image was removed meanwhile
            continue
    return {directory for directory in found if (Path(store) / directory).is_dir()}


def size_of(path: str) -> int:
    """Return the bytes that a tree takes on its filesystem; 0 if it does not exist."""
    done = subprocess.run(["du", "-sx", "--block-size=1", path], capture_output=True, text=True, check=False)
    return int(done.stdout.split()[0]) if done.stdout else 0


def progress(say: Callable[[str], None], total: int) -> Report:
    """Return a report that says every few seconds how much is copied, and how long the rest will take.

    Args:
        say: receives the lines.
        total: bytes of the source.
    """
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
    """Make a directory an exact copy of another, on the disk.

    Args:
        report: is called with the progress.
        exclude: directories, relative to the source, that are neither copied nor removed.
        polite: let others have the disk and the processor first, and accept files that change or vanish meanwhile.

    Raises:
        CopyError: rsync failed.
    """
    for _ in range(_ATTEMPTS if polite else 1):
        code, complaints = _rsync(source, target, report, exclude, polite=polite)
        if code != _PARTIAL:  # for example: a file was truncated while it was read
            break
    if code and not (polite and code == _VANISHED):
        raise CopyError(f"rsync from {source} ended with {code}: {'; '.join(complaints[-5:])}")
    subprocess.run(["sync", "-f", target], check=True)


def _rsync(source: str, target: str, report: Report, exclude: Iterable[str], *, polite: bool) -> tuple[int, list[str]]:
    """Run rsync. Return its exit code and the lines of its standard error."""
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
    """Compare every file with its copy, byte by byte as both are on the disk, and copy the files that differ again.

    Args:
        exclude: directories, relative to the source, that are left out.

    Returns:
        The files, relative to the source, that differed: they have changed since they were copied, or the copy was bad.
        Their new copies have not been compared.

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
    r"""Return the name that rsync printed. It prints \#NNN, three octal digits, for a byte that is not printable (rsync(1))."""
    raw = name.encode(errors="surrogateescape")
    return re.sub(rb"\\#([0-7]{3})", lambda match: bytes([int(match[1], 8)]), raw).decode(errors="surrogateescape")


def moment() -> float:
    """Return the time, in seconds since the epoch, so early that no file that changes from now on has an earlier ctime."""
    return time.time() - _CLOCK_GRAIN


def changed(source: str, since: float, exclude: Iterable[str] = ()) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a tree that changed at or after a moment, or that vanish during the search.

    The ctime decides, because nobody can set it.

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
    """Return the files, relative to the source, whose content may have changed at or after a moment.

    Args:
        since: seconds since the epoch.
        exclude: directories, relative to the source, that are left out.
    """
    files = (entry for entry in changed(source, since, exclude) if entry.is_file(follow_symlinks=False))
    return [os.path.relpath(entry.path, source) for entry in files]


def to_be_verified(source: str, since: float, suspects: Iterable[str], exclude: Iterable[str] = ()) -> list[str]:
    """Return the files that the last copy must copy again and verify: those that changed, and those that `compare` found.

    Args:
        since: when the first copy began, in seconds since the epoch.
        suspects: files that `compare` found.
        exclude: directories, relative to the source, that are left out.
    """
    existing = {name for name in suspects if stat.S_ISREG(_mode(os.path.join(source, name)))}
    return sorted({*changed_files(source, since, exclude), *existing})


def _mode(path: str) -> int:
    """Return a file's type and permissions; 0 if it does not exist."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def distrust(target: str, files: Iterable[str]) -> None:
    """Make the next copy transfer these files again, even if their sizes and times are equal."""
    top = os.path.realpath(target)
    for name in files:
        path = os.path.join(target, name)
        # If a directory was a symbolic link when it was copied, the path leads out of the copy.
        parent = os.path.join(top, os.path.dirname(name))
        if os.path.lexists(path) and os.path.realpath(parent) == os.path.normpath(parent):
            os.utime(path, (0, 0), follow_symlinks=False)


def verify(source: str, target: str, files: Iterable[str], exclude: Iterable[str]) -> None:
    """Verify a copy whose source nobody changes any more: the trees are equal, and these files byte by byte.

    Args:
        files: relative to the source.
        exclude: directories, relative to the source, that are left out.

    Raises:
        CopyError: they are not equal. The message names some of the differences.
    """
    different = _differences(source, target, exclude)
    for name in files:
        _forget_file(os.path.join(target, name))
        if not _is_same(os.path.join(source, name), os.path.join(target, name)):
            different.append(name)
    if different:
        raise CopyError(f"the copy of {source} differs in {len(different)} places: {'; '.join(different[:5])}")


def _differences(source: str, target: str, exclude: Iterable[str]) -> list[str]:
    """Return what rsync would change, one line for each item."""
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
    """Return whether two files can be read and are equal, byte by byte."""
    try:
        with open(one, "rb") as first, open(other, "rb") as second:
            while block := first.read(_BLOCK):
                if second.read(_BLOCK) != block:
                    return False
            return not second.read(1)
    except OSError:
        return False


def _patterns(exclude: Iterable[str]) -> str:
    """Return directories as rsync's --exclude-from reads them."""
    return "".join(f"/{directory}/\n" for directory in exclude)


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def _forget(tree: str) -> None:
    """Drop the files of a tree from memory, so that they are read from the disk next time."""
    for directory, _, names in os.walk(tree):
        for name in names:
            _forget_file(os.path.join(directory, name))


def _forget_file(path: str) -> None:
    if not stat.S_ISREG(_mode(path)):  # opening a pipe or a device can have effects
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
