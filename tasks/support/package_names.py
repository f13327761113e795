"""Names of Debian packages: those that a host needs, and those that cannot stay beside an engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Without apparmor's tools every container fails to start where the kernel has AppArmor on.
ENGINE = {
    "docker-ce": (
        "docker-ce",
        "docker-ce-cli",
        "containerd.io",
        "docker-buildx-plugin",
        "docker-compose-plugin",
        "apparmor",
    ),
    "distro": ("docker.io", "apparmor", "ca-certificates"),
    "present": (),
}

# In some releases Debian and Ubuntu have these as separate packages, in others not at all.
ENGINE_WHERE_OFFERED = {"distro": ("docker-cli", "docker-buildx")}

# The daemon first.
ENGINE_PINNED = {"docker-ce": ("docker-ce", "docker-ce-cli"), "distro": ("docker.io", "docker-cli")}

# Each depends on the next one at its own version: apt changes the version only if all of them are named.
TOOLKIT = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)

VOLUME_TOOLS = {"ext4": "e2fsprogs", "xfs": "xfsprogs"}
PROGRAM = ("python3", "cron")
MOVE = ("rsync",)
ALERT = ("apprise",)

# Each has a file of the plugin of Docker's in /usr/libexec/docker/cli-plugins, and neither has a Conflicts: apt sees nothing,
# and dpkg fails (docker/docs#25506; the lists of files of Debian 13's docker-buildx 0.13.1 and docker-compose 2.26.1).
# docker-compose-v2 is Ubuntu's.
SAME_FILE = {
    "docker-buildx": "docker-buildx-plugin",
    "docker-compose": "docker-compose-plugin",
    "docker-compose-v2": "docker-compose-plugin",
}

# Of another source than the engine (docker-ce-packaging, deb/common/control; containerd-packaging, debian/control;
# docker.io's control file). docker.io itself is an engine, and no obstacle: see `HostState.engine`.
_OBSTACLES = {
    "docker-ce": ("containerd", "runc", "docker-cli", *SAME_FILE),
    "distro": ("containerd.io", "docker-ce-cli"),
}

# What apt may remove when an engine changes.
ENGINE_PARTS = (
    *(name for name in (*ENGINE["docker-ce"], *_OBSTACLES["docker-ce"]) if name != "apparmor"),
    "docker-ce-rootless-extras",
    "docker.io",
    "docker-doc",
)


def obstacles(engine: str, installed: Mapping[str, str]) -> list[str]:
    """Return the installed packages that cannot stay beside an engine.

    Args:
        engine: docker-ce, distro or present.
        installed: package → version.
    """
    there = [name for name in _OBSTACLES.get(engine, ()) if name in installed]
    # What stands beside Docker's package already does no harm.
    return [n for n in there if SAME_FILE.get(n) not in installed and not _is_first_compose(n, installed)]


def file_conflicts(engine: str, installed: Mapping[str, str]) -> list[str]:
    """Return those of the obstacles that apt does not remove by itself."""
    return [name for name in obstacles(engine, installed) if name in SAME_FILE]


def _is_first_compose(name: str, installed: Mapping[str, str]) -> bool:
    # Version 1 is a program in Python, with files of its own.
    return name == "docker-compose" and installed[name].startswith("1.")


def without_file_conflicts(names: Iterable[str], installed: Mapping[str, str]) -> list[str]:
    """Return packages of the distribution without those whose file an installed package of Docker's has."""
    return [name for name in names if SAME_FILE.get(name) not in installed]


def every_name() -> tuple[str, ...]:
    """Return every name that preflight asks dpkg for."""
    names = (
        *("lvm2", *VOLUME_TOOLS.values(), *PROGRAM, *MOVE, *ALERT, *TOOLKIT),
        *(name for engine in ENGINE.values() for name in engine),
        *(name for engine in ENGINE_WHERE_OFFERED.values() for name in engine),
        *(name for engine in _OBSTACLES.values() for name in engine),
        "podman-docker",
    )
    return tuple(dict.fromkeys(names))
