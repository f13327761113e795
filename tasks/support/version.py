"""Compare versions of Debian packages with a pin: an upstream version or the beginning of one. Pure."""

from __future__ import annotations

import re


def matches(version: str, pin: str) -> bool:
    """Return whether a Debian version is the upstream version of a pin, or begins with it.

    >>> matches("5:27.5.1-1~debian.12~bookworm", "27.5")
    True
    >>> matches("5:27.51.0-1~debian.12~bookworm", "27.5")
    False
    """
    upstream = version.split(":", 1)[-1]
    return upstream == pin or (upstream.startswith(pin) and not upstream[len(pin)].isalnum())


def is_newer(version: str, pin: str) -> bool:
    """Return whether a Debian version is newer than a pin, by the numbers that both have.

    >>> is_newer("5:28.0.1-1~debian.12~bookworm", "27.5")
    True
    >>> is_newer("5:27.5.1-1~debian.12~bookworm", "27.5")
    False
    """
    wanted = _numbers(pin)
    return _numbers(version.split(":", 1)[-1])[: len(wanted)] > wanted


def is_survived(version: str, pin: str, *, live_restore: bool) -> bool:
    """Return whether running containers survive the step from an engine's version to a pin. (An empty one: no step.)

    With live-restore they survive a step to another patch release, and no other.

    >>> old, older = "5:27.5.0-1~debian.12~bookworm", "5:27.4.1-1~debian.12~bookworm"
    >>> is_survived(old, "27.5.1", live_restore=True), is_survived(older, "27.5.1", live_restore=True)
    (True, False)
    """
    if not version or not pin or matches(version, pin):
        return True
    return live_restore and _numbers(version.split(":", 1)[-1])[:2] == _numbers(pin)[:2]


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", re.split(r"[-+~]", version)[0])]


def pattern(pin: str) -> str:
    """Return an extended regular expression for the Debian versions that a pin matches, with or without an epoch.

    >>> pattern("26.1.5+dfsg1")
    '^([0-9]+:)?26[.]1[.]5[+]dfsg1([^0-9A-Za-z].*)?$'
    """
    literal = re.sub(r"([.+])", r"[\1]", pin)
    return f"^([0-9]+:)?{literal}([^0-9A-Za-z].*)?$"
