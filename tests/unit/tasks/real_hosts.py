"""Hosts as people have them, as facts: what preflight says of each, and the table of it in docs/hosts.md.

Each file of hosts/layouts/ is one host without Docker: os-release, the sections of the storage fact, fstab as it is. The
layouts are put together from the sources that the files name, in the form in which the tools print them.

Write the table anew after a change: ``.venv/bin/python -m tests.unit.tasks.real_hosts``.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bulkhead.sizes import human
from pyinfra_lvm.facts import parse_storage, split_sections
from pyinfra_lvm.model import Storage
from tasks.preflight.examine import Examination, examine
from tasks.preflight.facts import HostFacts, parse_host
from tasks.preflight.host import HostState

from .example_hosts import settings

LAYOUTS = Path(__file__).parent / "hosts" / "layouts"
PAGE = Path(__file__).parents[3] / "docs" / "hosts.md"
_BEGIN = "| Host | With nothing set | With these settings |\n|---|---|---|\n"


@dataclass(frozen=True)
class RealHost:
    """A host of hosts/layouts/."""

    name: str  # of its file
    title: str
    source: str  # where its layout is from
    kind: str  # which row of README's table it belongs to
    wanted: dict[str, Any]  # settings with which it is examined too
    state: HostState
    storage: Storage

    def examine(self, **wanted: object) -> Examination:
        return examine(settings(**wanted), self.state, self.storage)


def real_hosts() -> list[RealHost]:
    """Return every host, in the order of the names of their files."""
    return [_read(path) for path in sorted(LAYOUTS.glob("*.txt"))]


def _read(path: Path) -> RealHost:
    title, source, *lines = path.read_text().splitlines()
    sections = split_sections(lines, "##")
    kind = next(name for name in sections if name.startswith("HOST## kind "))
    wanted = next((name for name in sections if name.startswith("HOST## with ")), "HOST## with {}")
    fstab = base64.b64encode("\n".join(sections["HOST## fstab"]).encode()).decode()
    storage = [line for name, text in sections.items() if name.startswith("STORAGE##") for line in (f"##{name}", *text)]
    return RealHost(
        path.stem,
        title.removeprefix("# "),
        source.removeprefix("# Source: "),
        kind.removeprefix("HOST## kind "),
        json.loads(wanted.removeprefix("HOST## with ")),
        _bare_host(sections["HOST## os"]),
        parse_storage([*storage, "##STORAGE## fstab", fstab]),
    )


def _bare_host(os_release: list[str]) -> HostState:
    """Return what the fact says of a host of this release without Docker: every other section is empty."""
    titles = dict.fromkeys(
        re.findall(r"^section ([\w-]+)", HostFacts().command().replace("; section", "\nsection"), re.M)
    )
    text = {"system": ["0", "amd64", "systemd"], "os": os_release}
    state = parse_host([line for title in titles for line in (f"##HOST## {title}", *text.get(title, []))])
    return replace(state, machine="its firmware has a UUID")


# -- the table


def verdict(result: Examination) -> str:
    """Return the verdict as README has it."""
    if result.findings:
        return "refused"
    return "works, with a warning" if result.warnings else "works"


def described(result: Examination) -> str:
    """Return verdict and message."""
    messages = [f"{found.found}. Do: {found.action}" for found in result.findings] or [*result.warnings]
    size = f"{human(result.plan.size)} in {result.plan.volume_group or 'place'}" if result.plan else ""
    return ": ".join([f"**{verdict(result)}**", "; ".join(filter(None, [size, *messages]))]).replace("|", "\\|")


def table() -> str:
    """Return the table of all hosts."""
    rows = []
    for host in real_hosts():
        shown = ", ".join(f"`{name} = {value!r}`".replace("'", '"') for name, value in host.wanted.items())
        with_settings = f"{shown}: {described(host.examine(**host.wanted))}" if host.wanted else ""
        rows.append(f"| {host.title} | {described(host.examine())} | {with_settings} |\n")
    return _BEGIN + "".join(rows)


def page() -> str:
    """Return docs/hosts.md with the table as it has to be."""
    return PAGE.read_text().partition(_BEGIN)[0] + table()


if __name__ == "__main__":
    PAGE.write_text(page())
