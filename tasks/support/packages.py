"""Install Debian packages with apt: wait for its locks, and first repair the installation that a cut interrupted.

Some packages stay at a version. A pin holds them there, in apt's own upgrades too.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pyinfra import host
from pyinfra.api import FactBase, StringCommand

from pyinfra_lvm.collection import fact, operation
from tasks.support import gpu
from tasks.support.files import render, replace_file, verbatim
from tasks.support.version import matches, pattern


class PackageStates(FactBase[dict[str, str]]):
    """Return dpkg's state of each package that it knows: ``installed``, ``unpacked``, ``half-configured`` …

    Args:
        packages: their names.
    """

    def command(self, packages: list[str]) -> str:
        return f"dpkg-query -W -f '${{Package}} ${{db:Status-Status}}\\n' {shlex.join(packages)} 2>/dev/null; true"

    def process(self, output: list[str]) -> dict[str, str]:
        return dict(line.split() for line in output)

    @staticmethod
    def default() -> dict[str, str]:
        return {}


def _patient(script: str, lock_timeout: int) -> str:
    """Return a shell script with the functions `apt_get`, `repair` and `repaired`, which wait for other package managers.

    Args:
        lock_timeout: seconds to wait at most.
    """
    return f"patience={lock_timeout}\n{verbatim('apt.sh')}\n{script}"


def update_command(lock_timeout: int) -> StringCommand:
    """Return the command that updates apt's lists.

    Args:
        lock_timeout: seconds to wait for another package manager.
    """
    return StringCommand(_patient("apt_get update", lock_timeout))


def install_command(packages: Sequence[str], lock_timeout: int, **how: bool) -> StringCommand:
    """Return the script of `install_script` as a command."""
    return StringCommand(install_script(packages, lock_timeout, **how))


def install_script(
    packages: Sequence[str], lock_timeout: int, *, may_remove: bool = False, only_download: bool = False
) -> str:
    """Return the shell script that installs packages without recommendations, after a repair of what a cut interrupted.

    Args:
        packages: their names.
        lock_timeout: seconds to wait for another package manager.
        may_remove: remove packages that are in the way; without it the script fails where there are any.
        only_download: fetch the packages, so that a later installation takes less time.
    """
    options = ["--no-install-recommends", *([] if may_remove else ["--no-remove"])]
    options += ["--download-only"] if only_download else []
    return _patient(f"repaired apt_get -y {' '.join(options)} install {shlex.join(packages)}", lock_timeout)


def simulation_script(packages: Sequence[str], lock_timeout: int, may_remove: Sequence[str] = ()) -> str:
    """Return the shell script that fails where apt could not install packages, or would remove others for them.

    Args:
        packages: their names; one with a ``-`` at its end is removed.
        lock_timeout: seconds to wait for another package manager.
        may_remove: names of packages that apt may remove.
    """
    names = shlex.join(packages)
    changed = (
        "This run has changed nothing but apt: it has updated the lists, and it may have added repositories, installed gpg and "
        "ca-certificates to verify them, and finished an installation that was cut before."
    )
    allowed = " ".join(f"-e {name}" for name in ("''", *may_remove))
    return _patient(
        f"repair || exit 1; planned=$(apt_get -y --no-install-recommends --simulate install {names}) || "
        f'{{ printf \'%s\\n\' "$planned" >&2; echo "apt cannot install {names}, for the reason above. {changed}" >&2; '
        "exit 1; }; "
        f"removed=$(printf '%s\\n' \"$planned\" | awk '$1 == \"Remv\" {{ print $2 }}' | grep -vxF {allowed} || true); "
        f'[ -z "$removed" ] || {{ echo "to install {names}, apt would remove $(echo $removed). Neither was done. {changed} '
        'Remove them yourself if this host does not need them, or leave this host out." >&2; exit 1; }',
        lock_timeout,
    )


def purge_command(packages: Sequence[str], lock_timeout: int) -> StringCommand:
    """Return the command that removes packages with their configuration. It fails where other packages need them.

    Args:
        packages: their names; those that dpkg does not know are left out.
        lock_timeout: seconds to wait for another package manager.
    """
    names = shlex.join(packages)
    these = " ".join(f"-e {name}" for name in packages)
    script = (
        f"repair || exit 1; names=$(dpkg-query -W -f '${{Package}} ${{db:Status-Status}}\\n' {names} 2>/dev/null | "
        'awk \'$2 != "not-installed" { print $1 }\'); [ -z "$names" ] || { '
        f'others=$(apt_get --simulate purge $names | awk \'$1 == "Purg" || $1 == "Remv" {{ print $2 }}\' | grep -vxF {these}); '
        '[ -z "$others" ] || { echo "these packages need $(echo $names): $(echo $others); nothing was removed" >&2; exit 1; }; '
        "apt_get -y purge $names; }"
    )
    return StringCommand(_patient(script, lock_timeout))


def missing_of(packages: Sequence[str]) -> list[str]:
    """Return the packages that are not installed and configured on the host."""
    states = fact(PackageStates, packages=list(packages))
    return [name for name in packages if states.get(name) != "installed"]


@operation()
def installed(packages: list[str], lock_timeout: int) -> Generator[StringCommand, None, None]:
    """Install and configure packages.

    Args:
        packages: their names.
        lock_timeout: seconds to wait for another package manager.
    """
    if missing := missing_of(packages):
        yield update_command(lock_timeout)
        gpu.warn_before("new packages may reload systemd")
        yield install_command(missing, lock_timeout)
    else:
        host.noop(f"{', '.join(packages)}: installed")


# -- packages that stay at a version


@dataclass(frozen=True)
class Pinned:
    """Packages that stay at one version.

    Args:
        names: of the packages.
        version: an upstream version or the beginning of one; empty for no pin.
        path: of the pin's file.
        setting: that has the version.
    """

    names: tuple[str, ...]
    version: str
    path: str
    setting: str

    @property
    def pin(self) -> str:
        """Return the content of the pin's file; empty for no pin."""
        if not self.version:
            return ""
        return render("preferences.j2", packages=self.names, pattern=f"/{pattern(self.version)}/", setting=self.setting)

    def is_met(self, name: str, version: str) -> bool:
        """Return whether a package may have a version."""
        return not self.version or name not in self.names or matches(version, self.version)


@dataclass(frozen=True)
class Offer:
    """Which of some packages are installed, which apt can install, and their pin."""

    installed: dict[str, str]  # package → version, of configured ones
    offered: frozenset[str]
    pin: str = ""


def offer_command(packages: Sequence[str], pin: str, where_offered: Sequence[str] = ()) -> str:
    """Return the command whose output `parse_offer` reads.

    Args:
        packages: their names.
        pin: path of the pin's file.
        where_offered: those that apt is asked for.
    """
    names = shlex.join(packages)
    # Without a name both programs would list every package.
    installed = f"dpkg-query -W -f 'package ${{Package}} ${{db:Status-Status}} ${{Version}}\\n' {names} 2>/dev/null; "
    offered = (
        f"LC_ALL=C apt-cache policy {shlex.join(where_offered)} 2>/dev/null | "
        'awk \'/^[^ ]/ { name = $1 } $1 == "Candidate:" && $2 != "(none)" { sub(":$", "", name); print "offered", name }\'; '
    )
    asked = (installed if packages else "") + (offered if where_offered else "")
    return f"{asked}[ ! -f {pin} ] || sed 's/^/pin=/' {pin}; "


def parse_offer(output: list[str]) -> Offer:
    """Parse the output of `offer_command`."""
    words = [line.split() for line in output]
    return Offer(
        installed={w[1]: w[3] for w in words if len(w) == 4 and w[0] == "package" and w[2] == "installed"},
        offered=frozenset(w[1] for w in words if len(w) == 2 and w[0] == "offered"),
        pin="".join(line.removeprefix("pin=") + "\n" for line in output if line.startswith("pin=")),
    )


class Offered(FactBase[Offer]):
    """Return which of some packages apt can install now.

    Args:
        packages: their names.
    """

    def command(self, packages: list[str]) -> str:
        return f"{offer_command(packages, '/nonexistent', packages)}true"

    def process(self, output: list[str]) -> Offer:
        return parse_offer(output)

    @staticmethod
    def default() -> Offer:
        return Offer({}, frozenset())


def outdated(packages: Sequence[str], found: Offer, pinned: Pinned) -> list[str]:
    """Return the packages that are missing or not at the pinned version."""
    return [name for name in packages if name not in found.installed or not pinned.is_met(name, found.installed[name])]


def pin_command(found: Offer, pinned: Pinned) -> StringCommand | None:
    """Return the command that writes or removes the pin; None where it is right already."""
    if found.pin == pinned.pin:
        return None
    return replace_file(pinned.path, pinned.pin) if pinned.pin else StringCommand("rm", pinned.path)


def under_pin(pinned: Pinned, packages: Sequence[str], script: str) -> StringCommand:
    """Return the command that runs a script under a pin, or fails where apt would choose another version.

    The pin is put in place only afterwards: where there is no such version or the upgrade fails, the old pin stays.

    Args:
        pinned: the version.
        packages: names of those that apt must offer at that version.
        script: that uses apt.
    """
    if not pinned.version:
        return StringCommand(script)
    text = render(
        "with-pin.sh.j2",
        pin=PurePosixPath(pinned.path).name,
        packages=packages,
        pattern=pattern(pinned.version),
        version=pinned.version,
        setting=pinned.setting,
        script=script,
    )
    return StringCommand(text, _stdin=pinned.pin)
