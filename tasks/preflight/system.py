"""Judge the login, the run lock and the system: its release, its architecture, its init. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from settings.model import Settings
from tasks.preflight.finding import LEAVE_OUT, Finding
from tasks.preflight.host import HostState

SUPPORTED = {"debian": ("12", "13"), "ubuntu": ("22.04", "24.04", "26.04")}
ARCHITECTURES = ("amd64", "arm64")


def not_root() -> Finding:
    """Return the finding for a login that is not root."""
    return Finding(
        "the login is not root",
        "root, directly or through sudo",
        'set "_sudo": True for this host (and _sudo_password where sudo asks for one), or ssh_user to "root"',
    )


def another_run(holder: str) -> Finding:
    """Return the finding for a run lock that somebody else holds.

    Args:
        holder: who holds it, in words.
    """
    return Finding(
        f"another run is under way: {holder}",
        "one run at a time on a host",
        "wait until it has ended and run again; if its connection is dead, end that process on the host",
    )


def judge_system(settings: Settings, state: HostState) -> Iterator[Finding]:
    """Yield why the system is not one that this project provisions."""
    release_may_differ = settings.allow_unsupported_release and state.os_id in SUPPORTED
    if not _is_supported(state) and not release_may_differ:
        yield Finding(
            f"the system is {_release(state)}",
            " or ".join(f"{name.capitalize()} {', '.join(versions)}" for name, versions in SUPPORTED.items()),
            "use a supported release; allow_unsupported_release = True accepts another one of Debian or Ubuntu",
        )
    if state.architecture not in ARCHITECTURES:
        yield Finding(f"the architecture is {state.architecture}", " or ".join(ARCHITECTURES), "use another machine")
    if not state.systemd:
        yield Finding(
            "systemd is not PID 1",
            "systemd, which keeps Docker from starting without its volume",
            f"boot the host with systemd, {LEAVE_OUT}",
        )


def system_warnings(state: HostState) -> Iterator[str]:
    """Yield a warning for a release that this project is not tested on."""
    if not _is_supported(state):
        yield f"this project is not tested on {_release(state)} (allow_unsupported_release)"


def _is_supported(state: HostState) -> bool:
    return state.os_version in SUPPORTED.get(state.os_id, ())


def _release(state: HostState) -> str:
    return f"{state.os_id} {state.os_version or state.os_codename}".strip() or "unknown"
