"""Read the arguments of `docker build`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.docker.redaction import without_user

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Options of `docker build` without a value; all others take one.
_FLAGS = {
    *("check", "compress", "debug", "disable-content-trust", "force-rm", "help", "load", "no-cache", "pull", "push"),
    *("quiet", "rm", "squash", "stream"),
}

_LETTERS = {"t": "tag", "f": "file", "q": "quiet", "D": "debug", "h": "help"}
_REMOTE = re.compile(r"[a-z+-]+://|git@|github\.com/")


class Arguments(NamedTuple):
    """The arguments of `docker build` that matter to the space it needs."""

    tag: str = ""  # the first one
    file: str = ""  # as given with --file
    context: str = ""
    progress: str = ""
    build_args: Mapping[str, str] = {}

    @classmethod
    def of(cls, words: Sequence[str]) -> Arguments:
        options: dict[str, list[str]] = {}
        places: list[str] = []
        following = iter(words)
        for word in following:
            if word == "--":
                places += following
            elif word.startswith("--"):
                name, equals, value = word[2:].partition("=")
                if not equals and name not in _FLAGS:
                    value = next(following, "")
                options.setdefault(name, []).append(value)
            elif word.startswith("-") and word != "-":
                letters = word[1:]
                while letters:
                    name, letters = _LETTERS.get(letters[0], letters[0]), letters[1:]
                    if name not in _FLAGS:
                        options.setdefault(name, []).append(letters.removeprefix("=") or next(following, ""))
                        break
                    options.setdefault(name, []).append("")
            else:
                places.append(word)
        assigned = (text.partition("=") for text in options.get("build-arg", []))
        return cls(
            tag=options.get("tag", [""])[0],
            file=options.get("file", [""])[-1],
            context=without_user(places[-1]) if places else "",
            progress="quiet" if "quiet" in options else options.get("progress", [""])[-1],
            build_args={name: value if equals else os.environ.get(name, "") for name, equals, value in assigned},
        )

    @property
    def is_local(self) -> bool:
        """Return whether the context is a directory of this host."""
        return self.context not in ("", "-") and (os.path.isdir(self.context) or not _REMOTE.match(self.context))

    @property
    def dockerfile(self) -> str:
        """Return the path of the Dockerfile; empty if it is not a file of this host."""
        if self.file == "-" or not self.is_local:
            return ""
        return self.file or os.path.join(self.context, "Dockerfile")

    @property
    def key(self) -> str:
        """Return the key that its builds are remembered by; empty if there is neither a tag nor a context.

        >>> Arguments.of(["-t", "registry:5000/app:1.2", "."]).key
        'registry:5000/app'
        """
        if self.tag:
            path, slash, name = self.tag.rpartition("/")
            return path + slash + name.partition(":")[0]
        if self.is_local:
            return f"{os.path.abspath(self.context)} {os.path.abspath(self.dockerfile or self.file)}"
        return self.context if self.context != "-" else ""
