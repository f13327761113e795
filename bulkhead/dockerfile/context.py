"""Find the files of a build as Docker's CLI does, and walk its context as BuildKit does.

Sources: docker/buildx, build/opt.go (loadInputs, handleLowercaseDockerfile); BuildKit's frontend/dockerui (which .dockerignore
counts); tonistiigi/fsutil, filter.go (what is sent) and followlinks.go (symbolic links in the sources of COPY).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.dockerfile import patterns
from bulkhead.dockerfile.ignore import TOP, IgnoreRules
from bulkhead.dockerfile.stages import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SENT, UNUSED, IGNORED = range(
    3
)  # fates of an entry; UNUSED: no instruction copies it, and BuildKit does not ask for it


class Entry(NamedTuple):
    """A file or a directory of a context."""

    directory: str  # from its top, with a slash at its end; empty: the top
    name: str
    size: int  # bytes that are sent with it; 0 for all but regular files, and for further hard links of one
    is_directory: bool
    state: int  # of IgnoreRules
    fate: int

    @property
    def path(self) -> str:
        return self.directory + self.name


def dockerfile_of(context: str, file: str = "") -> str:
    """Return the path of the Dockerfile of a build; where there is only a file `dockerfile`, of that.

    Args:
        file: of --file, which is not `-`; empty: the default.
    """
    path = file or os.path.join(context, "Dockerfile")
    directory, name = os.path.split(path)
    if name == "Dockerfile":
        try:
            names = os.listdir(directory or ".")
        except OSError:
            names = []
        if "Dockerfile" not in names and "dockerfile" in names:
            return os.path.join(directory, "dockerfile")
    return path


def ignore_file_of(context: str, dockerfile: str = "") -> str:
    """Return the path of the .dockerignore that counts; empty: there is none.

    Args:
        dockerfile: its path; empty: it comes from standard input.
    """
    own = [f"{dockerfile}.dockerignore"] if dockerfile else []
    return next((path for path in (*own, os.path.join(context, ".dockerignore")) if os.path.isfile(path)), "")


def content_of(path: str) -> bytes | None:
    """Return the content of a file; None if there is none. Leave a pipe unread: only docker could read it then."""
    try:
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return file.read()
    except OSError:
        pass
    return None


class Selection:
    """What BuildKit asks for: the paths that a Dockerfile copies, and where symbolic links among them lead.

    Args:
        context: the directory.
        paths: that the Dockerfile copies, as BuildInputs.paths has them.
    """

    def __init__(self, context: str, paths: Sequence[str] = (EVERYTHING,)) -> None:
        found = () if EVERYTHING in paths else followed(context, paths)
        self.is_everything = EVERYTHING in paths or "." in found
        self._patterns = [patterns.pattern_of(path) for path in found]
        self._rules = IgnoreRules(self._patterns)

    def state_of(self, directory: int, path: str, name: str) -> int:
        return self._rules.state_of(directory, path, name)

    def has(self, state: int) -> bool:
        return self._rules.states[state].is_ignored  # these patterns take in, not out

    def may_have_below(self, directory: str) -> bool:
        return any(pattern.may_match_below(directory) for pattern in self._patterns)


def walk(context: str, rules: IgnoreRules, selection: Selection, *, counts_all: bool = False) -> Iterator[Entry]:
    """Yield the entries of a context.

    Args:
        context: the directory.
        counts_all: also yield what is in directories of which nothing is sent. Otherwise the walk does not enter these.

    Raises:
        OSError: a directory of which something may be sent cannot be read. Docker fails there too.
    """
    links: set[tuple[int, int]] = set()  # files with several hard links that are sent
    waiting = [("", TOP, TOP, SENT, False)]
    while waiting:
        prefix, above, chosen_above, fate_above, is_lost = waiting.pop()
        try:
            entries = os.scandir(os.path.join(context, prefix))
        except FileNotFoundError:  # it was removed meanwhile
            continue
        except PermissionError:
            if fate_above == SENT:
                raise
            continue
        with entries:
            for entry in entries:
                name = entry.name
                path = prefix + name
                state, chosen, fate = above, chosen_above, IGNORED
                if not is_lost:
                    own = rules.own(path, name)
                    state = rules.enter(above, own) if own else above
                    if not selection.is_everything:
                        chosen = selection.state_of(chosen_above, path, name)
                    if not rules.states[state].is_ignored:
                        fate = SENT if selection.is_everything or selection.has(chosen) else UNUSED
                size, is_directory = 0, entry.is_dir(follow_symlinks=False)
                if is_directory:
                    is_dead_end = fate == IGNORED and (is_lost or not rules.may_have_exceptions(state, path))
                    if counts_all or not (is_dead_end or (fate == UNUSED and not selection.may_have_below(path))):
                        waiting.append((path + "/", state, chosen, fate, is_dead_end))
                elif (counts_all or fate == SENT) and entry.is_file(follow_symlinks=False):
                    size = _size(entry, links if fate == SENT else None)
                yield Entry(prefix, name, size, is_directory, state, fate)


def _size(entry: os.DirEntry[str], links: set[tuple[int, int]] | None) -> int:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:  # it was removed meanwhile
        return 0
    if status.st_nlink > 1 and links is not None:
        key = (status.st_dev, status.st_ino)
        if key in links:
            return 0
        links.add(key)
    return status.st_size


# -- symbolic links


def followed(context: str, paths: Iterable[str]) -> list[str]:
    """Return paths and where symbolic links in them lead, as fsutil's FollowLinks does: `.` for the context itself."""
    found: dict[str, None] = {}
    for path in paths:
        _follow(context, path, found)
    return [*found]


def _follow(context: str, path: str, found: dict[str, None]) -> None:
    rest, current = patterns.clean("/" + path)[1:], ""
    if not rest:
        found["."] = None
    while rest:
        part, _, rest = rest.partition("/")
        current = os.path.join(current, part)
        targets = _targets(context, current)
        if current in found and (targets or not rest):
            return
        if targets or not rest:
            found[current] = None
        if targets:
            for target in targets:
                _follow(context, f"{target}/{rest}", found)
            return


def _targets(context: str, path: str) -> list[str]:
    """Return where a symbolic link leads, or the links that a name with wildcards means."""
    directory, name = os.path.split(path)
    names = [name]
    if set(name) & set("*?["):
        try:
            matches = patterns.pattern_of(name).path
            names = [each for each in os.listdir(os.path.join(context, directory)) if matches(each)]
        except (OSError, patterns.PatternError):
            return []
    targets = []
    for each in names:
        try:
            targets.append(os.path.join("/", directory, os.readlink(os.path.join(context, directory, each))))
        except OSError:  # it is no link, or not there
            continue
    return targets
