"""Find the builds that run on this host, count what their steps have written, and stop them.

A step of BuildKit's is a child of a runc that dockerd itself has started; nothing else is. A step of the classic builder is
an ordinary container, and Docker does not mark it. Here a container counts as a step only if it has everything that the
classic builder gives one.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from bulkhead import procfs
from bulkhead.storage.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bulkhead.docker.engine import Engine

CGROUPS = "/sys/fs/cgroup"
_BUNDLES = "/buildkit/executor/"
_LONGEST = 200  # characters of a command line that are shown
_ANSWER_TIMEOUT = 5  # seconds for Docker to list what runs

# The names that Docker makes up for containers that nobody has named: no step has a name of its own.
_NAMELESS = re.compile(r"[a-z]+_[a-z]+[0-9]?|[0-9a-f]{12,64}")
_SECRET = re.compile(r"(--(?:build-arg|secret)[=\s\0][^=\0]*=)[^\0]*")  # \0: between two words
_TERMINALS = (4, *range(136, 144))  # major numbers of consoles, and of the terminals of ssh and the like
_CONTAINER = re.compile(r"^(.*[/-][0-9a-f]{64}(?:\.scope)?)(?:/|$)")


class BuildStep(NamedTuple):
    """A step of a build, while it runs."""

    id: str
    pid: int  # of its first process
    cgroup: str  # directory
    written: int  # bytes so far
    words: str  # its command line, as `redacted` shows it
    container: str = ""  # its container's name, where the builder is the classic one


class Client(NamedTuple):
    """A command line on this host that makes Docker build, pull or load."""

    pid: int
    started: int  # clock ticks after the boot: a PID alone may be another process's by now
    words: str


# -- steps


def dockerd() -> int:
    """Return the PID of this host's dockerd; 0 if it does not run."""
    unit = f"{CGROUPS}/system.slice/docker.service/cgroup.procs"
    for pid in (*map(int, procfs.read(unit).split()), *procfs.process_ids()):
        # A dockerd in a container has another parent.
        if procfs.name(pid) == "dockerd" and procfs.parent(pid) == 1:
            return pid
    return 0


def steps(dockerd: int) -> list[BuildStep]:
    """Return the steps that BuildKit runs in a dockerd.

    Args:
        dockerd: its PID.
    """
    found = []
    for runc in procfs.children(dockerd):
        identifier = step_of(procfs.command_line(runc))
        for pid in procfs.children(runc) if identifier else []:
            cgroup = _cgroup_directory(pid)
            if identifier in cgroup:  # if not, runc is still setting the step up
                command = redacted(procfs.command_line(pid))
                found.append(BuildStep(identifier, pid, cgroup, written(cgroup), command))
                break
    return found


def step_of(words: list[str]) -> str:
    """Return the identifier of the step that a command line of runc's runs; empty if it runs no step of BuildKit's.

    >>> step_of("runc --log /l run --bundle /var/lib/docker/buildkit/executor/k7x k7x".split())
    'k7x'
    """
    if "run" not in words or "--bundle" not in words[:-2]:
        return ""
    bundle = words[words.index("--bundle") + 1]
    return words[-1] if bundle.endswith(f"{_BUNDLES}{words[-1]}") else ""


def classic_steps(engine: Engine) -> tuple[list[BuildStep], list[str]]:
    """Return the containers that are steps of a classic build, and the names of containers that only look like steps.

    Raises:
        EngineError: Docker does not list its containers.
    """
    from bulkhead.docker.engine import EngineError

    certain, similar = [], []
    for row in engine.ask("GET", "/containers/json", _ANSWER_TIMEOUT):
        if not row["Image"].startswith("sha256:"):
            continue
        try:
            container = engine.ask("GET", f"/containers/{row['Id']}/json", _ANSWER_TIMEOUT)
        except EngineError as error:
            if error.status != 404:
                raise
            continue
        name, pid = container["Name"].lstrip("/"), container["State"]["Pid"]
        cgroup = _cgroup_directory(pid)
        if not looks_like_step(container):
            continue
        if is_step(container) and container["Id"] in cgroup:
            command = redacted(procfs.command_line(pid))
            certain.append(BuildStep(container["Id"], pid, cgroup, written(cgroup), command, name))
        else:
            similar.append(name)
    return certain, similar


def looks_like_step(container: Mapping[str, Any]) -> bool:
    """Return whether a container keeps no logs and runs an image by its identifier, as a step of a classic build does.

    People can have such containers too.

    Args:
        container: as Docker inspects it.
    """
    return bool(
        container["State"]["Running"]
        and container["HostConfig"]["LogConfig"]["Type"] == "none"
        and container["Config"]["Image"].startswith("sha256:")
    )


def is_step(container: Mapping[str, Any]) -> bool:
    """Return whether a container has everything that Docker gives a step of a classic build.

    `docker run` never leaves ports and DNS servers unset, and people do not switch off the health check, the logs and the
    name of a container that they want to keep.

    Args:
        container: as Docker inspects it.
    """
    host, config = container["HostConfig"], container["Config"]
    return bool(
        looks_like_step(container)
        and config.get("Healthcheck") == {"Test": ["NONE"]}
        and (config["Env"] or [""])[0].startswith("PATH=")
        and not any(config.get(name) for name in ("AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin"))
        and host["RestartPolicy"]["Name"] in ("", "no")
        and host["PortBindings"] is None
        and host["Dns"] is None
        and not host["AutoRemove"]
        and not host["Privileged"]
        and not any([host["Binds"], host.get("Mounts"), container["Mounts"], host["VolumesFrom"]])
        and _NAMELESS.fullmatch(container["Name"].lstrip("/"))
    )


def refreshed(step: BuildStep) -> BuildStep | None:
    """Return a step as it is now; None if it has ended."""
    return step._replace(written=written(step.cgroup)) if _members(step.cgroup) else None


def written(cgroup: str) -> int:
    """Return the bytes that the processes of a control group have written. An ended process counts for its parent.

    Args:
        cgroup: the control group's directory.
    """
    return sum(map(procfs.bytes_written, _members(cgroup)))


def written_by_docker(dockerd: int) -> int:
    """Return the bytes that Docker itself has written: it copies, unpacks and exports.

    Builders in containers count too, with their steps.

    Args:
        dockerd: its PID.
    """
    own = {dockerd, *(pid for pid in procfs.children(dockerd) if not step_of(procfs.command_line(pid)))}
    builders = set()
    for pid in procfs.process_ids():
        name = procfs.name(pid)
        if name == "containerd":
            own.add(pid)
        elif name == "buildkitd" and (container := _CONTAINER.match(_cgroup_directory(pid))):
            builders.add(container[1])
    return sum(map(procfs.bytes_written, own)) + sum(map(written, builders))


def _cgroup_directory(pid: int) -> str:
    """Return the directory of a process's control group; empty if the process has none of its own."""
    groups = procfs.cgroup(pid).splitlines()
    path = next((line.removeprefix("0::") for line in groups if line.startswith("0::/")), "/")
    return CGROUPS + path if path != "/" else ""


def _members(cgroup: str) -> list[int]:
    """Return the processes of a control group and of the groups in it."""
    found = " ".join(procfs.read(f"{directory}/cgroup.procs") for directory, _, _ in os.walk(cgroup))
    return [int(pid) for pid in found.split()]


# -- stopping


def abort(step: BuildStep, why: str) -> None:
    """Write the reason to a step's output, and kill all of its processes.

    Raises:
        OSError: they cannot be killed.
    """
    write_to_stderr(step.pid, why)
    assert step.id in step.cgroup, step.cgroup
    try:
        _write(f"{step.cgroup}/cgroup.kill", b"1")
    except FileNotFoundError:  # the step has ended, or the kernel is older than 5.14
        with contextlib.suppress(ProcessLookupError):
            process = os.pidfd_open(step.pid)
            try:
                if _cgroup_directory(step.pid) == step.cgroup:
                    # It is the first of its PID namespace: the kernel kills all the others with it.
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            finally:
                os.close(process)


def interrupt(client: Client, why: str) -> bool:
    """Write the reason to a client's terminal, and stop the client as Ctrl-C does.

    Returns:
        Whether the client was still there.
    """
    try:
        process = os.pidfd_open(client.pid)
    except ProcessLookupError:
        return False
    try:
        if _client(client.pid) != client:
            return False
        write_to_stderr(client.pid, why)
        signal.pidfd_send_signal(process, signal.SIGINT)
    except ProcessLookupError:
        return False
    finally:
        os.close(process)
    return True


def write_to_stderr(pid: int, text: str) -> None:
    """Write a line to a process's standard error, if that is a terminal, a pipe, or a file of the process's own user.

    A file that the process has open only for reading is left alone: its user may not be allowed to write to it.
    """
    with contextlib.suppress(OSError):
        # The user comes first: if the process changes its user after this, the file is judged by the old one.
        user = os.stat(procfs.path(pid, ".")).st_uid
        # O_PATH holds the file without opening it, which a device would notice. So the file that is written to is the
        # one that was examined, whatever the process does meanwhile.
        held = os.open(procfs.path(pid, "fd/2"), os.O_PATH)
        try:
            if _takes_lines(os.fstat(held), user) and procfs.is_open_for_writing(pid, 2):
                _write(f"/proc/self/fd/{held}", f"\n{text}\n".encode(errors="replace"))
        finally:
            os.close(held)


def _takes_lines(file: os.stat_result, user: int) -> bool:
    is_terminal = stat.S_ISCHR(file.st_mode) and os.major(file.st_rdev) in _TERMINALS
    return stat.S_ISFIFO(file.st_mode) or is_terminal or (stat.S_ISREG(file.st_mode) and file.st_uid == user)


# -- command lines


def clients() -> tuple[list[Client], list[Client]]:
    """Return the command lines on this host that build, and those that pull or load; each list begins with the newest.

    Left out are those in containers, because to stop one there could stop its container, and `docker compose up --build`,
    which would stop containers that run already.
    """
    building = {process.pid for process in programs_that_build()}
    pulling = {pid for pid in procfs.process_ids() if pulls(procfs.command_line(pid))} - building
    return _clients_of(building), _clients_of(pulling)


def _clients_of(pids: set[int]) -> list[Client]:
    own = procfs.namespace("self", "pid")
    found = []
    # docker starts its plugin (docker-buildx), and ends with it: the two are one client.
    for pid in pids - {procfs.parent(pid) for pid in pids}:
        with contextlib.suppress(OSError):  # the process has ended
            client = _client(pid)
            if client and "--build" not in procfs.command_line(pid) and procfs.namespace(pid, "pid") == own:
                found.append(client)
    return sorted(found, key=lambda client: client.started, reverse=True)


def pulls(words: list[str]) -> bool:
    """Return whether a command line of Docker's pulls or loads.

    >>> pulls("docker --host tcp://h image pull box".split()), pulls("docker run --name pull box".split())
    (True, False)
    """
    if not words or os.path.basename(words[0]) not in ("docker", "docker-compose"):
        return False
    following = iter(words[1:])
    for word in following:
        if word in VALUED:
            next(following, None)
        elif word in ("pull", "load", "import"):
            return True
        elif not (word.startswith("-") or word in ("image", "compose")):
            return False
    return False


def _client(pid: int) -> Client | None:
    words = procfs.command_line(pid)
    return Client(pid, procfs.start_time(pid), redacted(words)) if words else None


def redacted(words: list[str]) -> str:
    """Return a command line in short and without secrets: people are shown it who may not see it on the host.

    >>> redacted(["docker", "build", "--build-arg", "TOKEN=a b", "--secret=id=a,env=A", "https://me:token@host/app.git"])
    'docker build --build-arg TOKEN=… --secret=id=… https://host/app.git'
    """
    text = without_user(_SECRET.sub(r"\1…", "\0".join(words)).replace("\0", " "))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def without_user(text: str) -> str:
    """Return a text without the users and passwords of the URLs in it.

    >>> without_user("https://me:token@host/app.git")
    'https://host/app.git'
    """
    return re.sub(r"://[^/\s]*@", "://", text)


def _write(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_NOCTTY)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


# Seconds that `compose up --build` may build. Without --detach it stays as long as its containers do.
_COMPOSE_BUILDS = 3600

# Options of docker and docker-compose that stand before the command and take the next word.
VALUED = {
    *("--host", "-H", "--context", "-c", "--config", "--log-level", "-l", "--tlscacert", "--tlscert", "--tlskey"),
    *("--file", "-f", "--project-name", "-p", "--project-directory", "--workdir", "--profile", "--env-file"),
    *("--parallel", "--ansi", "--progress", "--builder"),
}


def programs_that_build() -> list[Process]:
    """Return Docker's command lines that build.

    They matter for classic builds, of which the engine shows nothing between two steps.
    """
    found = []
    for pid in procfs.process_ids():
        words = procfs.command_line(pid)
        if words and os.path.basename(words[0]).startswith("python"):  # the first docker-compose is written in Python
            words = words[1:]
        if _builds(words) and ("--build" not in words or procfs.age(pid) < _COMPOSE_BUILDS):
            found.append(Process(pid, os.path.basename(words[0])))
    return found


def builds_under_way(engine: Engine, containers: Iterable[dict[str, Any]]) -> list[str]:
    """Describe the builds that are under way.

    Args:
        containers: all of the engine's, as Docker inspects them.

    Raises:
        EngineError: Docker does not answer.
    """
    steps = [
        f"a build (its step is the container {container['Name'].lstrip('/')})"
        for container in containers
        if is_step(container)
    ]
    # A build holds records of the cache, and they are in use as long as it runs.
    held = any(record["InUse"] for record in engine.usage("build-cache")["build-cache"])
    return [*steps, *(["a build"] if held else [])]


def under_way(engine: Engine) -> list[str]:
    """Describe what is lost if Docker stops now: builds, --rm containers, the memory of paused containers.

    Raises:
        EngineError: Docker does not answer.
    """
    found = []
    containers = [*engine.containers()]
    for container in containers:
        name = container["Name"].lstrip("/")
        if container["HostConfig"].get("AutoRemove"):
            found.append(f"the --rm container {name}")
        elif container["State"]["Paused"]:
            found.append(f"the paused container {name}")
    return [*found, *builds_under_way(engine, containers)]


def _builds(words: list[str]) -> bool:
    """Return whether a command line builds: `docker --host H buildx build .`, and not `docker stats build`."""
    name = os.path.basename(words[0]) if words else ""
    if name not in ("docker", "docker-compose", "docker-buildx"):
        return False
    composes = name == "docker-compose"
    following = iter(words[1:])
    for word in following:
        if word in VALUED:
            next(following, None)
        elif word == "compose":
            composes = True
        elif not word.startswith("-") and word not in ("buildx", "builder", "image"):
            return word in ("build", "bake") or (
                composes and word in ("up", "create", "run") and "--build" in following
            )
    return False
