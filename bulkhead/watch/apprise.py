"""Send messages through Apprise."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bulkhead.names import RECEIVERS
from bulkhead.watch.findings import CRITICAL, OK, UNKNOWN, WARNING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATIENCE = 180  # seconds for a message: Apprise alone takes long to start on a busy host
APPRISE_TYPES = {OK: "success", WARNING: "warning", CRITICAL: "failure", UNKNOWN: "warning"}  # Apprise's


@dataclass(frozen=True)
class Delivery:
    reached: bool  # somebody
    problem: str = ""  # without any part of the address


def send(receiver: str, title: str, body: str, kind: str) -> Delivery:
    """Send a message through Apprise.

    It gets a configuration of this one address, which has no name on any disk: of a file with all of them a single line
    that it does not understand makes it refuse the rest, and some names of tags mean every address to it.

    Args:
        kind: info, success, warning or failure.
    """
    try:
        address = _address(receiver)
    except OSError as error:
        return Delivery(False, f"{RECEIVERS} cannot be read: {error.strerror}")
    if not address:
        return Delivery(False, f"{RECEIVERS} has no address of this name")
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
        return Delivery(False, f"the program apprise cannot be started: {error.strerror}")
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
    """What Apprise sees: proxies as we have them, and nothing of whoever calls us.

    A home that can have no files keeps it from the user's plug-ins and .netrc, and from storing anything there (since
    1.9 it would, tokens included).
    """
    kept = {name: value for name, value in ours.items() if not name.startswith("APPRISE_")}
    return {**kept, "HOME": "/dev/null", "LC_ALL": "C.UTF-8", "LANGUAGE": "en"}


def result_of(code: int, output: str, errors: str, address: str) -> Delivery:
    """What Apprise's end means.

    An address can have several recipients. Apprise fails if one of them did: what the others got is not sent again and
    again for its sake.
    """
    import re

    # Apprise before 1.2.1 (Debian 12's) takes Slack's own answer for a failure (caronc/apprise#195, #777): each check would
    # send the message again.
    slack_has_it = re.search(r"Failed to send to Slack: error=200\.\s[^\n]*Response Details:\s+b'ok'", output)
    if code == 0 or slack_has_it:
        return Delivery(True)
    said = re.findall(
        r"^\S+ \S+ - (?:(?:WARNING|ERROR|CRITICAL) - |DEBUG - (?=\S+ Exception: ))(?!The persistent storage |Failed to load|You must specify)(.+)$",
        output,
        re.MULTILINE,
    )
    if not said:
        said = errors.strip().split("\n")[-1:]
    shown = [blanked(line.strip(" .\r"), address).removesuffix(" on line 1") for line in said]  # it is given no other
    problem = "; ".join(dict.fromkeys(shown))[-500:]
    reached = re.search(r"^\S+ \S+ - INFO - Sent ", output, re.MULTILINE) is not None
    return Delivery(reached, problem or f"Apprise's exit code is {code}")


def blanked(text: str, address: str) -> str:
    """A text without any part of an address but its scheme, however the part is written."""
    import re
    from urllib.parse import quote, unquote

    written = re.split(r"[/:@?&=+,;#]+", address.partition("://")[2])
    meant = [unquote(part) for part in written]
    quoted = [quote(part, errors="replace") for part in meant]
    as_bytes = [repr(part.encode(errors="replace"))[2:-1] for part in meant]
    parts = {*written, *meant, *quoted, *as_bytes}
    words = {word.lower() for part in parts for word in re.findall(r"[A-Za-z0-9]{2,}", part)} - {"to", "from"}
    text = re.sub(r"[A-Za-z0-9+.-]+://\S+", "***", text)
    # A short part can be within an ordinary word: there it says nothing, and it is blanked as a word of its own.
    for part in sorted(parts | words, key=len, reverse=True):
        if len(part) >= 6:
            text = re.sub(re.escape(part), "***", text, flags=re.IGNORECASE)
    text = re.sub(r"[A-Za-z0-9]+", lambda word: "***" if word[0].lower() in words else word[0], text)
    return re.sub(r"\*{3}(?:[^\w\s]?\*{3})+", "***", text)
