"""Send messages through Apprise."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bulkhead.names import RECEIVERS
from bulkhead.watch.results import CRITICAL, OK, UNKNOWN, WARNING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATIENCE = 180  # seconds for one message: on a busy host Apprise alone takes long to start
APPRISE_TYPES = {OK: "success", WARNING: "warning", CRITICAL: "failure", UNKNOWN: "warning"}


@dataclass(frozen=True)
class Delivery:
    reached: bool  # whether at least one recipient got it
    problem: str = ""  # contains no part of the address


def send(receiver: str, title: str, body: str, kind: str) -> Delivery:
    """Send a message through Apprise.

    Apprise gets a configuration with this one address, in memory. In a file with all addresses, one line that Apprise
    does not understand makes it refuse the rest, and some tags mean every address.

    Args:
        kind: info, success, warning or failure.
    """
    try:
        address = _address(receiver)
    except OSError as error:
        return Delivery(False, f"{RECEIVERS} cannot be read: {error.strerror}")
    if not address:
        return Delivery(False, f"{RECEIVERS} has no address for it")
    descriptor = os.memfd_create("receiver")
    try:
        os.write(descriptor, f"bulkhead={address}\n".encode(errors="surrogateescape"))
        done = subprocess.run(
            [
                "apprise",
                "-vvv",  # the reason of a failed connection is in the debug lines alone
                f"--config=file:///proc/self/fd/{descriptor}?format=text",
                "--tag=bulkhead",
                f"--title={title}",
                f"--notification-type={kind}",
            ],
            input=body,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=_PATIENCE,
            pass_fds=[descriptor],
            env=_environment(os.environ),
        )
    except subprocess.TimeoutExpired:
        return Delivery(False, f"Apprise did not end within {_PATIENCE} s")
    except OSError as error:
        return Delivery(False, f"the command apprise cannot be started: {error.strerror}")
    finally:
        os.close(descriptor)
    return result_of(done.returncode, done.stdout, done.stderr, address)


def _address(receiver: str) -> str:
    with open(RECEIVERS, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            name, _, address = line.partition("=")
            if name.strip() == receiver:
                return address.strip()
    return ""


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for Apprise: our proxies, but none of the caller's Apprise settings.

    A home that cannot hold files keeps Apprise from the user's plug-ins and .netrc, and from storing anything there. Since
    1.9 it would store tokens, too.
    """
    kept = {name: value for name, value in ours.items() if not name.startswith("APPRISE_")}
    return {**kept, "HOME": "/dev/null", "LC_ALL": "C.UTF-8", "LANGUAGE": "en"}


def result_of(code: int, output: str, errors: str, address: str) -> Delivery:
    """Return what came of a message, from Apprise's exit code and output.

    An address can have several recipients, and Apprise fails if one of them fails. A message that somebody got counts as sent:
    otherwise they would get it again and again.
    """
    import re

    # Apprise before 1.2.1 (Debian 12 has 1.2.0) mistakes Slack's success for a failure (caronc/apprise#195, #777): each check
    # would send the message again.
    slack_has_it = re.search(r"Failed to send to Slack: error=200\.\s[^\n]*Response Details:\s+b'ok'", output)
    if code == 0 or slack_has_it:
        return Delivery(True)
    reasons = re.findall(
        r"^\S+ \S+ - (?:(?:WARNING|ERROR|CRITICAL) - |DEBUG - (?=\S+ Exception: ))(?!The persistent storage |Failed to load|You must specify)(.+)$",
        output,
        re.MULTILINE,
    )
    if not reasons:
        reasons = errors.strip().split("\n")[-1:]
    shown = [
        blanked(line.strip(" .\r"), address).removesuffix(" on line 1") for line in reasons
    ]  # the only line it gets
    problem = "; ".join(dict.fromkeys(shown))[-500:]
    reached = re.search(r"^\S+ \S+ - INFO - Sent ", output, re.MULTILINE) is not None
    return Delivery(reached, problem or f"Apprise's exit code is {code}")


def blanked(text: str, address: str) -> str:
    """Return a text with every part of an address blanked, however it is written. The scheme stays."""
    import re
    from urllib.parse import quote, unquote

    written = re.split(r"[/:@?&=+,;#]+", address.partition("://")[2])
    meant = [unquote(part) for part in written]
    quoted = [quote(part, errors="replace") for part in meant]
    as_bytes = [repr(part.encode(errors="replace"))[2:-1] for part in meant]
    parts = {*written, *meant, *quoted, *as_bytes}
    words = {word.lower() for part in parts for word in re.findall(r"[A-Za-z0-9]{2,}", part)} - {"to", "from"}
    text = re.sub(r"[A-Za-z0-9+.-]+://\S+", "***", text)
    # A short part can occur inside an ordinary word, where it reveals nothing: blank it as a whole word only, below.
    for part in sorted(parts | words, key=len, reverse=True):
        if len(part) >= 6:
            text = re.sub(re.escape(part), "***", text, flags=re.IGNORECASE)
    text = re.sub(r"[A-Za-z0-9]+", lambda word: "***" if word[0].lower() in words else word[0], text)
    return re.sub(r"\*{3}(?:[^\w\s]?\*{3})+", "***", text)
