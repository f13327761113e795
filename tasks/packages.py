"""Debian packages, installed by apt as a run that may be cut needs it: waiting for apt's lock, mending what a cut left."""

from __future__ import annotations

import shlex
from collections.abc import Generator

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation

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


def install_commands(packages: list[str], lock_timeout: int) -> Generator[StringCommand, None, None]:
    """The commands that install packages without recommendations, after whatever a cut left is mended.

    Args:
        packages: their names.
        lock_timeout: seconds to wait for another package manager.
    """
    apt = _APT.format(timeout=lock_timeout)
    yield StringCommand("sh", "-c", shlex.quote(_UPDATE.format(apt=apt, timeout=lock_timeout)))
    # `install --fix-broken` configures what was left unconfigured; only dpkg can go on from an interrupted run of its own.
    yield StringCommand(
        f"{apt} -y --fix-broken install >/dev/null || env DEBIAN_FRONTEND=noninteractive dpkg --configure -a --force-confold"
    )
    yield StringCommand(f"{apt} -y --no-install-recommends install {shlex.join(packages)}")


@operation()
def installed(packages: list[str], lock_timeout: int) -> Generator[StringCommand, None, None]:
    """Have packages installed and configured.

    Args:
        packages: their names.
        lock_timeout: seconds to wait for another package manager.
    """
    states = host.get_fact(PackageStates, packages=packages)
    missing = [name for name in packages if states.get(name) != "installed"]
    if missing:
        yield from install_commands(missing, lock_timeout)
    else:
        host.noop(f"{', '.join(packages)}: installed")
