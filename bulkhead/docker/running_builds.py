"""Builds that are under way on this host: what their steps have written, and how they are stopped.

A step of BuildKit's is a child of a runc that dockerd itself has started: nothing else is. A step of the builder before it is
an ordinary container, which Docker tells by nothing; here it counts as one only by all that distinguishes it together.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bulkhead.procfs import PROC, User, children, members, parent, processes, read_or_empty, started, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bulkhead.docker.engine import Engine

CGROUPS = "/sys/fs/cgroup"
_BUNDLES = "/buildkit/executor/"
_LONGEST = 200  # characters of a command line that are told
_ANSWER = 5  # seconds for Docker to say what runs

# What Docker calls a container that nobody has named: no step has a name of its own.
_NAMELESS = re.compile(r"[a-z]+_[a-z]+[0-9]?|[0-9a-f]{12,64}")
_SECRET = re.compile(r"(--(?:build-arg|secret)[=\s\0][^=\0]*=)[^\0]*")  # \0: between two words
_TERMINALS = (4, *range(136, 144))  # major numbers of consoles, and of what ssh and the like have
_CONTAINER = re.compile(r"^(.*[/-][0-9a-f]{64}(?:\.scope)?)(?:/|$)")


class BuildStep(NamedTuple):
    id: str
    pid: int  # of its first process
    cgroup: str  # directory
    written: int  # bytes so far
    words: str  # its command, shortened
    container: str = ""  # the name of the one that it is, where the builder is not BuildKit


class Client(NamedTuple):
    """A command line on this host that has Docker build, pull or load."""

    pid: int
    started: int  # clock ticks after the boot: a PID alone may be another process's by now
    words: str


# -- steps


def dockerd() -> int:
    """The PID of this host's Docker; 0 where it does not run."""
    unit = f"{CGROUPS}/system.slice/docker.service/cgroup.procs"
    for pid in (*map(int, read_or_empty(unit).split()), *processes()):
        # The one in a container has another parent.
        if read_or_empty(f"{PROC}/{pid}/comm") == "dockerd" and parent(pid) == 1:
            return pid
    return 0


def steps(dockerd: int) -> list[BuildStep]:
    """The steps that BuildKit runs in this Docker."""
    found = []
    for runc in children(dockerd):
        identifier = bundle_of(words(runc))
        for pid in children(runc) if identifier else []:
            cgroup = _cgroup(pid)
            if identifier in cgroup:  # else it is still being set up
                found.append(BuildStep(identifier, pid, cgroup, written(cgroup), redacted(words(pid))))
                break
    return found


def bundle_of(words: list[str]) -> str:
    """The identifier of the step that a command line of runc's runs; empty: it runs none of BuildKit's.

    >>> bundle_of("runc --log /l run --bundle /var/lib/docker/buildkit/executor/k7x k7x".split())
    'k7x'
    """
    if "run" not in words or "--bundle" not in words[:-2]:
        return ""
    bundle = words[words.index("--bundle") + 1]
    return words[-1] if bundle.endswith(f"{_BUNDLES}{words[-1]}") else ""


def classic_steps(engine: Engine) -> tuple[list[BuildStep], list[str]]:
    """The containers that are steps of a build without BuildKit, and the names of those that only look like it.

    Raises:
        EngineError: Docker does not say.
    """
    from bulkhead.docker.engine import EngineError

    certain, similar = [], []
    for row in engine.ask("GET", "/containers/json", _ANSWER):
        if not row["Image"].startswith("sha256:"):
            continue
        try:
            container = engine.ask("GET", f"/containers/{row['Id']}/json", _ANSWER)
        except EngineError as error:
            if error.status != 404:
                raise
            continue
        name, pid = container["Name"].lstrip("/"), container["State"]["Pid"]
        cgroup = _cgroup(pid)
        if not looks_like_step(container):
            continue
        if is_step(container) and container["Id"] in cgroup:
            certain.append(BuildStep(container["Id"], pid, cgroup, written(cgroup), redacted(words(pid)), name))
        else:
            similar.append(name)
    return certain, similar


def looks_like_step(container: Mapping[str, Any]) -> bool:
    """Whether a container logs nowhere and runs an image by its identifier, as a step of a build without BuildKit does.

    People can have such containers too.

    Args:
        container: inspected.
    """
    return bool(
        container["State"]["Running"]
        and container["HostConfig"]["LogConfig"]["Type"] == "none"
        and container["Config"]["Image"].startswith("sha256:")
    )


def is_step(container: Mapping[str, Any]) -> bool:
    """Whether a container has all that Docker gives a step of a build without BuildKit.

    `docker run` never leaves ports and DNS servers unset, nor do people switch off a health check, logs and names for what
    they want to keep.
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


def looked_at_again(step: BuildStep) -> BuildStep | None:
    """A step as it is now; None: it has ended."""
    return step._replace(written=written(step.cgroup)) if members(step.cgroup) else None


def written(cgroup: str) -> int:
    """Bytes that the processes of a control group have written; those of ended ones count for their parents."""
    return sum(map(_written, members(cgroup)))


def written_by_docker(dockerd: int) -> int:
    """Bytes that Docker itself has written: copying, unpacking, exporting; and builders in containers, with their steps."""
    own = {dockerd, *(pid for pid in children(dockerd) if not bundle_of(words(pid)))}
    builders = set()
    for pid in processes():
        name = read_or_empty(f"{PROC}/{pid}/comm")
        if name == "containerd":
            own.add(pid)
        elif name == "buildkitd" and (container := _CONTAINER.match(_cgroup(pid))):
            builders.add(container[1])
    return sum(map(_written, own)) + sum(map(written, builders))


# -- stopping


def abort(step: BuildStep, why: str) -> None:
    """Say why in its output, and end all of its processes.

    Raises:
        OSError: they cannot be ended.
    """
    say(step.pid, why)
    assert step.id in step.cgroup, step.cgroup
    try:
        _write(f"{step.cgroup}/cgroup.kill", b"1")
    except FileNotFoundError:  # it has ended, or the kernel is older than 5.14
        with contextlib.suppress(ProcessLookupError):
            process = os.pidfd_open(step.pid)
            try:
                if _cgroup(step.pid) == step.cgroup:
                    # The first of its PID namespace: the kernel ends all the others with it.
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            finally:
                os.close(process)


def interrupt(client: Client, why: str) -> bool:
    """Say why on its terminal, and end it as Ctrl-C does; whether it was still there."""
    try:
        process = os.pidfd_open(client.pid)
    except ProcessLookupError:
        return False
    try:
        if _client(client.pid) != client:
            return False
        say(client.pid, why)
        signal.pidfd_send_signal(process, signal.SIGINT)
    except ProcessLookupError:
        return False
    finally:
        os.close(process)
    return True


def say(pid: int, text: str) -> None:
    """Write a line to what a process has as its standard error: a terminal, a pipe or a file of its user's that it writes to."""
    with contextlib.suppress(OSError):
        # The user first: a process that is another user's from now on is no longer in the hands of this one.
        user = os.stat(f"{PROC}/{pid}").st_uid
        # Only held, not opened (which a device would notice): what is looked at is what is written, whatever the process does.
        held = os.open(f"{PROC}/{pid}/fd/2", os.O_PATH)
        try:
            if _takes_lines(os.fstat(held), user) and _is_written(pid):
                _write(f"/proc/self/fd/{held}", f"\n{text}\n".encode(errors="replace"))
        finally:
            os.close(held)


def _takes_lines(file: os.stat_result, user: int) -> bool:
    is_terminal = stat.S_ISCHR(file.st_mode) and os.major(file.st_rdev) in _TERMINALS
    return stat.S_ISFIFO(file.st_mode) or is_terminal or (stat.S_ISREG(file.st_mode) and file.st_uid == user)


def _is_written(pid: int) -> bool:
    """Whether a process has its standard error open for writing: what it only reads, it may not be allowed to write."""
    flags = re.search(r"^flags:\s*([0-7]+)", read_or_empty(f"{PROC}/{pid}/fdinfo/2"), re.MULTILINE)
    return flags is not None and int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY


# -- command lines


def clients() -> tuple[list[Client], list[Client]]:
    """The command lines on this host that build, and those that pull or load; the newest first.

    None of a container: ending it there could end the container. Nor `docker compose up --build`: it would stop
    containers that run already.
    """

    building = {user.pid for user in programs_that_build()}
    pulling = {pid for pid in processes() if pulls(words(pid))} - building
    return _found(building), _found(pulling)


def _found(pids: set[int]) -> list[Client]:
    here = os.stat(f"{PROC}/self/ns/pid").st_ino
    found = []
    # docker has its plugin (docker-buildx) do it, and ends with that: the two are one.
    for pid in pids - {parent(pid) for pid in pids}:
        with contextlib.suppress(OSError):
            client = _client(pid)
            if client and "--build" not in words(pid) and os.stat(f"{PROC}/{pid}/ns/pid").st_ino == here:
                found.append(client)
    return sorted(found, key=lambda client: client.started, reverse=True)


def pulls(words: list[str]) -> bool:
    """Whether a command line of Docker's pulls or loads.

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
    line = words(pid)
    return Client(pid, started(pid), redacted(line)) if line else None


def redacted(words: list[str]) -> str:
    """A command line as it is told: to others than who may see it on the host, so without what may be secret.

    >>> redacted(["docker", "build", "--build-arg", "TOKEN=a b", "--secret=id=a,env=A", "https://me:token@host/app.git"])
    'docker build --build-arg TOKEN=… --secret=id=… https://host/app.git'
    """
    text = without_user(_SECRET.sub(r"\1…", "\0".join(words)).replace("\0", " "))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def without_user(text: str) -> str:
    """A text, without the users and passwords of the URLs in it.

    >>> without_user("https://me:token@host/app.git")
    'https://host/app.git'
    """
    return re.sub(r"://[^/\s]*@", "://", text)


def _cgroup(pid: int) -> str:
    """The directory of a process's control group; empty where there is none of its own."""
    path = next(
        (line[3:] for line in read_or_empty(f"{PROC}/{pid}/cgroup").splitlines() if line.startswith("0::/")), "/"
    )
    return CGROUPS + path if path != "/" else ""


def _written(pid: int) -> int:
    for line in read_or_empty(f"{PROC}/{pid}/io").splitlines():
        if line.startswith("write_bytes: "):
            return int(line.partition(" ")[2])
    return 0


def _write(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_NOCTTY)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


_COMPOSE_BUILDS = (
    3600  # seconds that `compose up --build` may build; without --detach it stays as long as its containers
)

# Options that stand before a command and take the next word.
VALUED = {
    *("--host", "-H", "--context", "-c", "--config", "--log-level", "-l", "--tlscacert", "--tlscert", "--tlskey"),
    *("--file", "-f", "--project-name", "-p", "--project-directory", "--workdir", "--profile", "--env-file"),
    *("--parallel", "--ansi", "--progress", "--builder"),
}


def programs_that_build() -> list[User]:
    """Docker's command lines that build: of a build without BuildKit, the engine tells nothing between two steps."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_text(errors="replace").split("\0")
            if os.path.basename(words[0]).startswith("python"):  # which runs the first docker-compose
                words = words[1:]
            if _builds(words) and ("--build" not in words or _age(process) < _COMPOSE_BUILDS):
                found.append(User(int(process.name), os.path.basename(words[0]), writes=False))
    return found


def builds_under_way(engine: Engine, containers: Iterable[dict[str, Any]]) -> list[str]:
    """Describe the builds that are under way.

    Args:
        containers: all of the engine, inspected.

    Raises:
        EngineError: Docker does not say.
    """
    steps = [
        f"a build (its step is the container {container['Name'].lstrip('/')})"
        for container in containers
        if looks_like_step(container)
    ]
    # Records of the cache are in use while a build holds them.
    held = any(record["InUse"] for record in engine.usage("build-cache")["build-cache"])
    return [*steps, *(["a build"] if held else [])]


def under_way(engine: Engine) -> list[str]:
    """Describe what is lost if Docker stops now: builds, --rm containers, the memory of paused containers.

    Raises:
        EngineError: Docker does not say.
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
    """Whether a command line builds: `docker --host H buildx build .`, and not `docker stats build`."""
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


def _age(process: Path) -> float:
    """Seconds since a process was started, by its directory in /proc."""
    started = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[19]  # proc_pid_stat(5)
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(started) / os.sysconf("SC_CLK_TCK")
