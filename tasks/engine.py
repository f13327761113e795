"""After this, Docker is installed from where the settings say, runs, and starts at boot."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation
from pyinfra.api.deploy import deploy

from settings import Settings
from tasks.files import render, replace_file
from tasks.packages import install_command, update_command
from tasks.paths import CONTAINERD, DOCKER, DOCKER_KEY, DOCKER_PIN, DOCKER_SOURCE
from tasks.preflight import Plan
from tasks.version import matches, pattern

# Without apparmor's tools every container fails to start where the kernel has AppArmor on.
REQUIRED = {
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
# Debian and Ubuntu split these off in some releases and lack them in others.
WHERE_OFFERED = {"distro": ("docker-cli", "docker-buildx")}

PINNED = {"docker-ce": ("docker-ce", "docker-ce-cli"), "distro": ("docker.io", "docker-cli")}


@dataclass(frozen=True)
class EngineState:
    """What apt and systemd say of the engine."""

    installed: dict[str, str]  # package → version, configured ones
    offered: frozenset[str]  # packages that apt could install
    source: str = ""  # content of our entry for Docker's repository
    fingerprint: str = ""  # of its key
    pin: str = ""
    running: bool = False  # docker and containerd, and enabled


class Engine(FactBase[EngineState]):
    """The packages of an engine, its repository, and whether it runs.

    Args:
        packages: names to ask for.
    """

    def command(self, packages: list[str]) -> str:
        names = shlex.join(packages)
        of_packages = (
            f"dpkg-query -W -f 'package ${{Package}} ${{db:Status-Status}} ${{Version}}\\n' {names} 2>/dev/null; "
            f"LC_ALL=C apt-cache policy {names} 2>/dev/null | "
            'awk \'/^[^ ]/ { name = $1 } $1 == "Candidate:" && $2 != "(none)" { sub(":$", "", name); print "offered", name }\'; '
        )
        return (
            # Without a name both would list every package there is.
            f"{of_packages if packages else ''}[ ! -f {DOCKER_SOURCE} ] || sed 's/^/source=/' {DOCKER_SOURCE}; "
            f"[ ! -f {DOCKER_PIN} ] || sed 's/^/pin=/' {DOCKER_PIN}; "
            f"[ ! -f {DOCKER_KEY} ] || gpg --batch --quiet --show-keys --with-colons {DOCKER_KEY} 2>/dev/null | "
            'awk -F: \'$1 == "fpr" { print "fingerprint", $10; exit }\'; '
            # Of several units is-active is content with one.
            f"systemctl is-active --quiet {DOCKER} && systemctl is-active --quiet {CONTAINERD} && "
            f"systemctl is-enabled --quiet {DOCKER} && systemctl is-enabled --quiet {CONTAINERD} && echo running; true"
        )

    def process(self, output: list[str]) -> EngineState:
        words = [line.split() for line in output]
        return EngineState(
            installed={w[1]: w[3] for w in words if len(w) == 4 and w[0] == "package" and w[2] == "installed"},
            offered=frozenset(w[1] for w in words if len(w) == 2 and w[0] == "offered"),
            source=_content(output, "source="),
            fingerprint=next((w[1] for w in words if len(w) == 2 and w[0] == "fingerprint"), ""),
            pin=_content(output, "pin="),
            running="running" in output,
        )

    @staticmethod
    def default() -> EngineState:
        return EngineState({}, frozenset())


def _content(output: list[str], prefix: str) -> str:
    return "".join(line.removeprefix(prefix) + "\n" for line in output if line.startswith(prefix))


@operation()
def repository(source: str, key_url: str, fingerprint: str, lock_timeout: int) -> Generator[StringCommand, None, None]:
    """Have Docker's repository in apt, its key checked against a fingerprint.

    Args:
        source: content of the deb822 file.
        key_url: where the key is fetched from.
        fingerprint: 40 hexadecimal digits.
        lock_timeout: seconds to wait for another package manager.
    """
    found = host.get_fact(Engine, packages=["gpg", "ca-certificates"])
    if found.fingerprint == fingerprint and found.source == source:
        host.noop("Docker's repository is there, with its key")
        return
    missing = [name for name in ("gpg", "ca-certificates") if name not in found.installed]
    if missing:
        yield update_command(lock_timeout)
        yield install_command(missing, lock_timeout)
    if found.fingerprint != fingerprint:
        script = render("fetch-docker-key.sh.j2", key=DOCKER_KEY, url=key_url, fingerprint=fingerprint)
        yield StringCommand(script)
    if found.source != source:
        yield replace_file(DOCKER_SOURCE, source)


@operation()
def engine(
    required: list[str], where_offered: list[str], version: str, pinned: list[str], lock_timeout: int
) -> Generator[StringCommand, None, None]:
    """Have an engine installed, running, and started at boot.

    Args:
        required: packages.
        where_offered: packages that are installed where the release has them.
        version: what ``pinned`` packages stay at; empty for no pin.
        pinned: packages that the version counts for.
        lock_timeout: seconds to wait for another package manager.
    """
    found = host.get_fact(Engine, packages=[*required, *where_offered])
    pin = render("docker.preferences.j2", packages=pinned, pattern=f"/{pattern(version)}/") if version else ""
    wanted = [*required, *(name for name in where_offered if name in found.offered)]
    outdated = [
        name
        for name in wanted
        if name not in found.installed or (version and name in pinned and not matches(found.installed[name], version))
    ]
    if found.pin != pin:
        yield replace_file(DOCKER_PIN, pin) if pin else StringCommand("rm", DOCKER_PIN)
    if outdated:
        yield update_command(lock_timeout)
        if version:
            yield _refuse_other_candidates([name for name in required if name in pinned], version)
        offered = host.get_fact(Engine, packages=where_offered).offered if where_offered else ()  # by the new lists
        yield install_command([*required, *offered], lock_timeout)
    if outdated or not found.running:
        yield StringCommand(
            f"systemctl reset-failed {DOCKER} {CONTAINERD} 2>/dev/null; "
            f"systemctl enable --quiet --now {CONTAINERD} {DOCKER} && timeout 60 docker version >/dev/null || "
            f"{{ journalctl --unit {DOCKER} --lines 15 --no-pager --output cat >&2; "
            "echo 'Docker does not start, for the reason above' >&2; exit 1; }"
        )
    elif found.pin == pin:
        host.noop("Docker is installed and runs")


def _refuse_other_candidates(packages: list[str], version: str) -> StringCommand:
    """Fail where apt would install another version: it passes over a pin that nothing matches."""
    return StringCommand(
        f"for package in {shlex.join(packages)}; do "
        "candidate=$(LC_ALL=C apt-cache policy \"$package\" | sed -n 's/^ *Candidate: //p'); "
        f"printf '%s' \"$candidate\" | grep -qE {shlex.quote(pattern(version))} || {{ "
        f'echo "no version {version} of $package; apt offers:" >&2; apt-cache madison "$package" >&2; '
        "echo 'nothing was installed. Correct engine_version.' >&2; exit 1; }; done"
    )


@deploy("Engine")
def install(settings: Settings, plan: Plan) -> None:
    """The packages of the engine that the plan names, and Docker running."""
    if plan.engine == "docker-ce":
        repository(
            name="Docker's repository, its key checked",
            source=render(
                "docker.sources.j2",
                repository=settings.docker_repository,
                os_id=plan.os_id,
                codename=plan.os_codename,
                channel=settings.docker_repository_channel,
                key=DOCKER_KEY,
            ),
            key_url=settings.docker_repository_key or f"{settings.docker_repository}/{plan.os_id}/gpg",
            fingerprint=settings.docker_repository_fingerprint,
            lock_timeout=settings.apt_lock_timeout,
        )
    engine(
        name="Docker is installed and runs",
        required=list(REQUIRED[plan.engine]),
        where_offered=list(WHERE_OFFERED.get(plan.engine, ())),
        version=settings.engine_version,
        pinned=list(PINNED.get(plan.engine, ())),
        lock_timeout=settings.apt_lock_timeout,
    )
