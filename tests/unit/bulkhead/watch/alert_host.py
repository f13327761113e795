"""A host whose alerts go to receivers."""

from __future__ import annotations

from pathlib import Path

from bulkhead.watch.results import CheckResult

HOUR = 3600.0


VOLUME = "/srv/docker-volume"


def use(level: int, text: str = "/ 85 % used", mount: str = "/") -> CheckResult:
    return CheckResult(f"use:{mount}", level, text, mount)


class AlertHost:
    """A host with an empty state. It records the calls of systemctl and the lines of the system's log."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.log: list[str] = []
        (place / "bin").mkdir()
        self.program("systemctl", f'echo "$@" >>{place}/systemctl')

    def program(self, name: str, script: str) -> None:
        path = self.place / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def receivers(self, **addresses: str) -> None:
        lines = "".join(f"{name}={address}\n" for name, address in addresses.items())
        (self.place / "receivers").write_text(lines)

    def apprise(self, script: str) -> None:
        """Replace Apprise by a script that gets the address as $1 and the title as $2."""
        read = 'for option; do case $option in --config=*) file=${option#--config=file://};; --title=*) title=${option#--title=};; esac; done\naddress=$(sed s/^bulkhead=// "${file%%\\?*}")'
        self.program("apprise", f'{read}\nset -- "$address" "$title"\n{script}')

    @property
    def starts(self) -> list[str]:
        file = self.place / "systemctl"
        return [line for line in file.read_text().splitlines() if line.startswith("start")] if file.exists() else []
