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


def update_command(lock_timeout: int) -> StringCommand:
    """The command that brings apt's lists up to date.

    Args:
        lock_timeout: seconds to wait for another package manager.
    """
    return StringCommand(_UPDATE.format(apt=_APT.format(timeout=lock_timeout), timeout=lock_timeout).strip())


def install_command(packages: list[str], lock_timeout: int) -> StringCommand:
    """The command that installs packages without recommendations, after whatever a cut left is mended.

    Args:
        packages: their names.
        lock_timeout: seconds to wait for another package manager.
    """
    apt = _APT.format(timeout=lock_timeout)
    # What was interrupted inside dpkg only dpkg goes on with; what lacks its dependencies only apt mends.
    return StringCommand(
        f'if [ -n "$(dpkg --audit)" ] || [ -n "$(ls -A /var/lib/dpkg/updates)" ]; then '
        f"DEBIAN_FRONTEND=noninteractive dpkg --configure -a --force-confdef --force-confold; "
        f"{apt} -y --fix-broken install; fi; "
        f"{apt} -y --no-install-recommends install {shlex.join(packages)}"
    )


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
        yield update_command(lock_timeout)
        yield install_command(missing, lock_timeout)
    else:
        host.noop(f"{', '.join(packages)}: installed")
