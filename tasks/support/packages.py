"""Debian packages, installed by apt as a run that may be cut needs it: waiting for apt's lock, mending what a cut left.

Some stay at a version: by a pin, which apt's own upgrades heed too.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation

from tasks.support import gpu
from tasks.support.files import render, replace_file
from tasks.support.version import matches, pattern

# A package manager at work on the host (unattended-upgrades, cloud-init) is waited for. DPkg::Lock::Timeout covers
# install alone: update takes the lock of the lists and gives up at once (apt.conf(5)), hence the loop.
_APT = "env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -q -o DPkg::Lock::Timeout={timeout} " + (
    "-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"
)

_UPDATE = r"""
deadline=$(( $(date +%s) + {timeout} ))
until out=$({apt} update 2>&1); do
    case $out in *"Could not get lock"*) ;; *) printf '%s\n' "$out" >&2; exit 1 ;; esac
    [ "$(date +%s)" -lt "$deadline" ] || {{ printf '%s\n' "$out" >&2; exit 1; }}
    sleep 5
done
"""


class PackageStates(FactBase[dict[str, str]]):
    """dpkg's state of each package that it knows: ``installed``, ``unpacked``, ``half-configured`` …

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


def update_command(lock_timeout: int) -> StringCommand:
    """The command that brings apt's lists up to date.

    Args:
        lock_timeout: seconds to wait for another package manager.
    """
    return StringCommand(_UPDATE.format(apt=_APT.format(timeout=lock_timeout), timeout=lock_timeout).strip())


# What was interrupted inside dpkg only dpkg goes on with; what lacks its dependencies only apt mends.
_MEND = (
    'if [ -n "$(dpkg --audit)" ] || [ -n "$(ls -A /var/lib/dpkg/updates)" ]; then '
    "DEBIAN_FRONTEND=noninteractive dpkg --configure -a --force-confdef --force-confold || true; {apt} -y --fix-broken install; fi; "
)


def install_command(packages: Sequence[str], lock_timeout: int, **how: bool) -> StringCommand:
    """The command of `install_script`, by itself."""
    return StringCommand(install_script(packages, lock_timeout, **how))


def install_script(
    packages: Sequence[str], lock_timeout: int, *, may_remove: bool = False, only_download: bool = False
) -> str:
    """The shell script that installs packages without recommendations, after whatever a cut left is mended.

    Args:
        packages: their names.
        lock_timeout: seconds to wait for another package manager.
        may_remove: others may go for them; without it, it fails where they would.
        only_download: so that the installation itself takes no longer than it must.
    """
    apt = _APT.format(timeout=lock_timeout)
    options = ["--no-install-recommends", *([] if may_remove else ["--no-remove"])]
    options += ["--download-only"] if only_download else []
    return f"{_MEND.format(apt=apt)}{apt} -y {' '.join(options)} install {shlex.join(packages)}"


def purge_command(packages: Sequence[str], lock_timeout: int) -> StringCommand:
    """The command that removes packages with their configuration, and nothing else: it fails where others need them.

    Args:
        packages: their names; dpkg need not know all of them.
        lock_timeout: seconds to wait for another package manager.
    """
    apt, names = _APT.format(timeout=lock_timeout), shlex.join(packages)
    only = " ".join(f"-e {name}" for name in packages)
    return StringCommand(
        f"{_MEND.format(apt=apt)}"
        f"names=$(dpkg-query -W -f '${{Package}} ${{db:Status-Status}}\\n' {names} 2>/dev/null | "
        'awk \'$2 != "not-installed" { print $1 }\'); [ -z "$names" ] || { '
        f'others=$({apt} --simulate purge $names | awk \'$1 == "Purg" || $1 == "Remv" {{ print $2 }}\' | grep -vxF {only}); '
        f'[ -z "$others" ] || {{ echo $others: needs $names"; nothing was removed" >&2; exit 1; }}; {apt} -y purge $names; }}'
    )


def missing_of(packages: Sequence[str]) -> list[str]:
    """Those of some packages that the host has not installed and configured."""
    states = host.get_fact(PackageStates, packages=list(packages))
    return [name for name in packages if states.get(name) != "installed"]


@operation()
def installed(packages: list[str], lock_timeout: int) -> Generator[StringCommand, None, None]:
    """Have packages installed and configured.

    Args:
        packages: their names.
        lock_timeout: seconds to wait for another package manager.
    """
    if missing := missing_of(packages):
        yield update_command(lock_timeout)
        gpu.say_before("systemd may be reloaded, by packages,")
        yield install_command(missing, lock_timeout)
    else:
        host.noop(f"{', '.join(packages)}: installed")


# -- packages that stay at a version


@dataclass(frozen=True)
class Pinned:
    """Packages that stay at one version.

    Args:
        names: of them.
        version: an upstream version or the beginning of one; empty for no pin.
        path: of the pin.
        setting: that the version comes from.
    """

    names: tuple[str, ...]
    version: str
    path: str
    setting: str

    @property
    def pin(self) -> str:
        """The content of the pin's file."""
        if not self.version:
            return ""
        return render("preferences.j2", packages=self.names, pattern=f"/{pattern(self.version)}/", setting=self.setting)

    def is_met(self, name: str, version: str) -> bool:
        return not self.version or name not in self.names or matches(version, self.version)


@dataclass(frozen=True)
class Offer:
    """What dpkg has of some packages, what apt could install of them, and a pin."""

    installed: dict[str, str]  # package → version, configured ones
    offered: frozenset[str]
    pin: str = ""


def offer_command(packages: Sequence[str], pin: str) -> str:
    """The command whose output `offer_of` reads.

    Args:
        packages: their names.
        pin: path of the pin.
    """
    names = shlex.join(packages)
    of_packages = (
        f"dpkg-query -W -f 'package ${{Package}} ${{db:Status-Status}} ${{Version}}\\n' {names} 2>/dev/null; "
        f"LC_ALL=C apt-cache policy {names} 2>/dev/null | "
        'awk \'/^[^ ]/ { name = $1 } $1 == "Candidate:" && $2 != "(none)" { sub(":$", "", name); print "offered", name }\'; '
    )
    # Without a name both would list every package there is.
    return f"{of_packages if packages else ''}[ ! -f {pin} ] || sed 's/^/pin=/' {pin}; "


def offer_of(output: list[str]) -> Offer:
    words = [line.split() for line in output]
    return Offer(
        installed={w[1]: w[3] for w in words if len(w) == 4 and w[0] == "package" and w[2] == "installed"},
        offered=frozenset(w[1] for w in words if len(w) == 2 and w[0] == "offered"),
        pin="".join(line.removeprefix("pin=") + "\n" for line in output if line.startswith("pin=")),
    )


class Offered(FactBase[Offer]):
    """Which of some packages apt could install now.

    Args:
        packages: their names.
    """

    def command(self, packages: list[str]) -> str:
        return f"{offer_command(packages, '/nonexistent')}true"

    def process(self, output: list[str]) -> Offer:
        return offer_of(output)

    @staticmethod
    def default() -> Offer:
        return Offer({}, frozenset())


def outdated(packages: Sequence[str], found: Offer, pinned: Pinned) -> list[str]:
    """Those of the packages that are missing, or at another version than the pinned one."""
    return [name for name in packages if name not in found.installed or not pinned.is_met(name, found.installed[name])]


def pin_command(found: Offer, pinned: Pinned) -> StringCommand | None:
    """The command that makes the pin what it should be; None where it is."""
    if found.pin == pinned.pin:
        return None
    return replace_file(pinned.path, pinned.pin) if pinned.pin else StringCommand("rm", pinned.path)


def under_pin(pinned: Pinned, packages: Sequence[str], script: str) -> StringCommand:
    """The command that does something with apt at a version, or fails where apt would take another one.

    The pin itself comes after it: a version that there is not, or an upgrade that does not come about, leaves the old one.

    Args:
        pinned: the version.
        packages: names of those that have to be there at it.
        script: what is done.
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
