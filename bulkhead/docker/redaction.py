"""Show a command line without its secrets: people are shown it who may not see it on the host.

What is not known to be harmless is shown as `…`.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
from typing import TYPE_CHECKING

from bulkhead.docker.command_lines import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

_HIDDEN = "…"
_LONGEST = 200  # characters that are shown
_LONGEST_SCRIPT = 2000  # characters of a shell script that are read
_SHELLS = ("sh", "ash", "bash", "dash", "ksh", "zsh")
_BETWEEN_COMMANDS = ("&&", "||", "|", ";")
_ASSIGNING = ("dd", "env", "export", "make")  # programs with arguments like NAME=VALUE

_PROGRAM = re.compile(r"[A-Za-z_./][\w./+-]{0,63}")
_OPTION = re.compile(r"--[a-z][a-z0-9-]{0,31}|-[A-Za-z]{1,2}")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w{0,39}=)(?!=*$).*", re.DOTALL)
_PAIR = re.compile(r"([A-Za-z_*][\w.*-]{0,79}=)(?!=*$).*", re.DOTALL)
_URL = re.compile(r"([a-z][a-z0-9+.-]{0,15}://)(?:[^/?#]*@)?([\w.-]+(?::\d+)?)?(.*)", re.DOTALL)
_NAME = re.compile(r"[\w./:+-]{1,100}")
_QUERY = re.compile(r"(?<=://)[^\s?\"'`]*\?[^\s\"'`]*")
# Not those that choose what a build takes from a git repository (BuildKit, util/gitutil).
_PARAMETER = re.compile(
    r"((?<=[?&])(?!(?:ref|tag|branch|commit|checksum|subdir|submodules|keep-git-dir)=)[^=&#]*=)[^&#]+"
)

# Words that say what a command does.
_KNOWN = {
    *(".", "..", "-", "add", "all", "autoremove", "b", "bake", "build", "builder", "buildx", "checkout", "ci", "clean"),
    *("clone", "compose", "create", "dap", "debug", "download", "f", "fetch", "get", "image", "import", "install"),
    *("load", "mod", "pip", "pipefail", "pull", "run", "sdist", "sync", "test", "up", "update", "upgrade", "watch"),
    "wheel",
}
# Of docker's options: those without a value, those whose value is no secret, those whose value begins with its name.
_FLAGS = {
    *("--build", "--check", "--debug", "--detach", "--force-rm", "--load", "--no-cache", "--print", "--pull", "--push"),
    *("--quiet", "--rm", "--watch", "-D", "-d", "-q", "-w"),
}
_HARMLESS = {
    *("--builder", "--context", "--file", "--network", "--platform", "--profile", "--progress", "--project-name"),
    *("--tag", "--target", "-c", "-f", "-p", "-t"),
}
_PAIRS = {
    *("--build-arg", "--build-context", "--cache-from", "--cache-to", "--env", "--label", "--output", "--secret"),
    *("--set", "--ssh", "--var", "-e", "-o"),
}


def redacted(words: list[str]) -> str:
    """Return a command line in short and without what could be a secret.

    >>> redacted(["docker", "build", "--build-arg", "TOKEN=a b", "--secret=id=a,env=A", "https://me:token@host/app.git"])
    'docker build --build-arg TOKEN=… --secret=id=… https://host/…'
    >>> redacted(["/bin/sh", "-c", "pip install -U torch && curl -u me:token https://host/a | tar -xz -C /opt"])
    '/bin/sh -c pip install -U … && curl -u … https://host/… | tar -xz -C …'
    """
    return _redacted(tuple(words))


@functools.lru_cache(maxsize=256)
def _redacted(words: tuple[str, ...]) -> str:
    shown: list[str] = []
    length = 0
    for word in _shown(iter(words), is_client=parse([*words]) is not None):
        if word != _HIDDEN or shown[-1:] != [_HIDDEN]:
            shown.append(word)
            length += len(word) + 1
        if length > _LONGEST:
            break
    text = " ".join(shown)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _shown(words: Iterator[str], *, is_client: bool = False) -> Iterator[str]:
    """Yield each word of a command line as it is shown.

    Args:
        is_client: whether it is one of docker's, which builds or pulls.
    """
    program = option = ""  # of this command; the option before the word
    for word in words:
        if word in _BETWEEN_COMMANDS:
            program = option = ""
            yield word
        elif not program:
            if _ASSIGNMENT.fullmatch(word):  # for the environment of the program
                yield _begin_of(_ASSIGNMENT, word)
                continue
            program = os.path.basename(word)
            yield word if _PROGRAM.fullmatch(word) else _HIDDEN
        elif program in _SHELLS and re.fullmatch(r"-[a-z]*c", option):
            program = option = ""
            yield from _shown(_words_of(word))
        elif word.startswith("-") and word != "-":
            option, equals, value = word.partition("=")
            if not _OPTION.fullmatch(option) and not (program in _SHELLS and re.fullmatch(r"-[a-z]*c", option)):
                yield f"{option[:2]}{_HIDDEN}" if not option.startswith("--") else _HIDDEN
            elif equals:
                yield f"{option}={_value(value, option, program, is_client=is_client)}"
                option = ""
            else:
                yield option
        else:
            yield _value(word, option, program, is_client=is_client)
            option = ""
            is_client = is_client and word != "run"  # the command line of a container follows


def _value(word: str, option: str, program: str, *, is_client: bool) -> str:
    """Return a word as it is shown: the value of an option, or an argument of the program.

    Args:
        option: before the word; it may be one without a value. Empty: there is none.
        is_client: whether the options are those of docker's clients.
    """
    if word in _KNOWN:
        return word
    if url := _URL.fullmatch(word):
        scheme, host, rest = url.groups(default="")
        # A password can contain a slash: then the host is not the host.
        is_host = host and "@" not in rest and rest[:1] in ("", "/", "?", "#")
        return f"{scheme}{host}{'/…' if rest else ''}" if is_host else f"{scheme}{_HIDDEN}"
    if is_client:
        if option in _PAIRS:
            return _begin_of(_PAIR, word)
        is_harmless = not option or option in _FLAGS or option in _HARMLESS
        return word if is_harmless and _NAME.fullmatch(word) else _HIDDEN
    return _begin_of(_ASSIGNMENT, word) if program in _ASSIGNING and not option else _HIDDEN


def _begin_of(pattern: re.Pattern[str], word: str) -> str:
    """Return the name of a NAME=VALUE. What ends with = can be a secret in base64."""
    found = pattern.fullmatch(word)
    return f"{found[1]}{_HIDDEN}" if found else _HIDDEN


def _words_of(script: str) -> Iterator[str]:
    """Yield the words of a shell script, as far as they can be told apart."""
    words = shlex.shlex(script[:_LONGEST_SCRIPT], posix=True, punctuation_chars=True)
    words.whitespace_split, words.commenters = True, ""
    try:
        for word in words:
            if word.startswith("<<"):  # text follows, and no commands
                break
            yield word
        else:
            return
    except ValueError:  # a quotation without an end
        pass
    yield _HIDDEN


def without_secrets(text: str) -> str:
    """Return a text without the users and passwords of the URLs in it, and without the values in their queries.

    >>> without_secrets("https://me:token@host/app.git?branch=main")
    'https://host/app.git?branch=main'
    >>> without_secrets("curl 'https://host/a.tar?size=1&token=b' -o /a")
    "curl 'https://host/a.tar?size=…&token=…' -o /a"
    """
    return _QUERY.sub(_without_values, re.sub(r"://[^/\s]*@", "://", text))


def _without_values(query: re.Match[str]) -> str:
    address = query[0].rstrip(",.:;)")  # a sentence may go on
    return _PARAMETER.sub(rf"\1{_HIDDEN}", address) + query[0][len(address) :]
