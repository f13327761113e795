"""No build fills the volume: the guard stops such a build in time, and stops nothing else."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest

from lab.machine import Machine
from tests.lab.conftest import DATA, IMAGE, converge, dry, send, start, verify, wait_until

VOLUME = "/srv/docker-volume"
SETTINGS = {"volume_size": "6G"}
FLOOR = 6 * 2**30 // 4  # a quarter of the volume, because that is less than two gigabytes
# What a build can still write between two samples and while its processes end: a second at the lab's top speed.
MISSED = 150 * 2**20
PROMPT = 2  # seconds from the decision to the end of the client, beside what Docker itself needs

# By default one of these tests runs.
SELDOM = pytest.mark.sample(1, of="guard, rescue")

# With Docker 26.1 in the full run only.
BOTH_ENGINES = pytest.mark.parametrize(
    "machine", ["guarded", pytest.param("guarded_newer", marks=pytest.mark.full)], indirect=True
)

BALLAST_GONE = "was deleted so that Docker can answer"

FILL = "dd if=/dev/zero of=/big bs=1M count=8000"


def free(machine: Machine) -> int:
    return int(machine.out(f"df --output=avail -B1 {VOLUME} | tail -n 1"))


def leave_free(machine: Machine, size: int) -> None:
    """Write a file that leaves this many bytes of the volume free."""
    machine.run(
        f"rm -f {VOLUME}/hog; fallocate -l $(($(df --output=avail -B1 {VOLUME} | tail -n 1) - {size})) {VOLUME}/hog"
    )


def journal(machine: Machine, output: str = "cat") -> str:
    return machine.out(f"journalctl --unit=docker-guard.service --output={output} --no-pager")


class Build:
    """A build that runs on the machine."""

    def __init__(self, machine: Machine, name: str, *steps: str, buildkit: bool = True, context: str = "-") -> None:
        self.machine, self.name = machine, name
        dockerfile = "\\n".join(["FROM box", f"LABEL build={name}", *steps])
        read = f"printf '{dockerfile}\\n' >/root/{name}.Dockerfile; "
        source = f"- </root/{name}.Dockerfile" if context == "-" else f"--file /root/{name}.Dockerfile {context}"
        self.process = start(
            [
                *machine.ssh_command(user="root"),
                f"{read} DOCKER_BUILDKIT={int(buildkit)} docker build --no-cache --network none --tag {name} {source}; "
                "code=$?; date +ended-%s.%N; exit $code",
            ]
        )

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=600)
        return self.process.returncode, output


@pytest.fixture(scope="module")
def guarded(machines: Callable[..., Machine]) -> Machine:
    return prepared(machines("guarded", suite="bookworm", docker="preinstalled"))


@pytest.fixture(scope="module")
def guarded_newer(machines: Callable[..., Machine]) -> Machine:
    return prepared(machines("guarded-newer", suite="trixie", docker="preinstalled"))


def prepared(machine: Machine) -> Machine:
    converge(machine, **SETTINGS)
    machine.run(IMAGE)
    send(machine, DATA / "sampler.py", "/root/sampler.py")
    machine.run("systemctl stop cron docker-prune.timer")
    machine.run(f"until test -s {VOLUME}/.bulkhead-ballast; do sleep 1; done", timeout=300)
    machine.snapshot("guarded")
    return machine


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    name = getattr(request, "param", "guarded")
    host: Machine = request.getfixturevalue(name)
    host.restore("guarded")
    yield host
    if name != "guarded":
        host.cut()  # it would take a processor from the others


def start_sampler(machine: Machine) -> None:
    machine.run(
        "systemctl stop sampler 2>/dev/null; rm -f /run/low /run/still; systemd-run --quiet --unit=sampler --nice=-15 python3 /root/sampler.py"
    )


def lowest_free(machine: Machine) -> int:
    return int(machine.out("cat /run/low"))


def stood_still(machine: Machine, begin: float, end: float) -> float:
    """Return for how many seconds between two moments the machine stood still, because the one that emulates it did."""
    pauses = [map(float, line.split()) for line in machine.out("cat /run/still 2>/dev/null || true").splitlines()]
    return sum(max(0.0, min(ended, end) - max(began, begin)) for began, ended in pauses)


def assert_aborted_in_time(machine: Machine, builder: bool, number: int) -> None:
    """Assert that a build is stopped before it fills the volume, says why, and leaves Docker as it was."""
    before = free(machine)
    start_sampler(machine)
    build = Build(machine, f"fills{number}", f"RUN {FILL}", buildkit=builder)
    code, output = build.end()
    assert code not in (0, 255), output
    assert "docker-guard" in output, output
    assert lowest_free(machine) > FLOOR - MISSED, (
        f"the floor was passed by {(FLOOR - lowest_free(machine)) / 2**20:.0f} MiB"
    )
    ended = re.search(r"ended-([0-9.]+)", output)
    assert ended
    decided = [
        float(line.split()[0]) for line in journal(machine, "short-unix").splitlines() if "stops the build" in line
    ]
    assert decided, journal(machine)
    took = float(ended[1]) - decided[-1] - stood_still(machine, decided[-1], float(ended[1]))
    if took > PROMPT:  # Docker itself may be slow, while a second emulated machine uses the same two processors
        without_guard = max(seconds_until_client_ends(machine, builder) for _ in range(3))
        assert took < PROMPT + without_guard, "the client ended too late"
    wait_until(lambda: free(machine) > before - 50 * 2**20)
    assert machine.out("systemctl is-active docker") == "active"


def processes(machine: Machine, command: str) -> int:
    """Return how many processes have a command line that matches a whole regular expression."""
    return int(machine.run(f"pgrep -fxc '{command}'", check=False).stdout)


LOOP = "sh -c while sleep .*"


def end_loops(machine: Machine) -> int:
    """End the loops of the slow builds that sleep now, and return how many go on."""
    machine.run("pkill -x sleep", check=False)
    return processes(machine, LOOP)


def seconds_until_client_ends(machine: Machine, builder: bool) -> float:
    """Return the seconds between a step that fails by itself and the end of its client."""
    build = Build(machine, "fails", "RUN sleep 1000", buildkit=builder)
    wait_until(lambda: machine.run("pgrep -fx 'sleep 1000'", check=False).returncode == 0)
    failed = float(machine.out("date +%s.%N; pkill -KILL -fx 'sleep 1000'"))
    ended = re.search(r"ended-([0-9.]+)", build.end()[1])
    assert ended
    return float(ended[1]) - failed


def test_host_is_verified_and_has_nothing_left_to_change(guarded: Machine) -> None:
    guarded.run("systemctl start cron docker-prune.timer")
    verify(guarded)
    assert dry(guarded, **SETTINGS).predicted == set()


@pytest.mark.parametrize("builder", ["buildkit", pytest.param("classic", marks=pytest.mark.full)])
def test_build_that_would_fill_the_volume_is_stopped_before_it_does(machine: Machine, builder: str) -> None:
    leave_free(machine, FLOOR + 900 * 2**20)
    assert_aborted_in_time(machine, builder == "buildkit", 1)
    code, output = Build(
        machine, "fits", "RUN dd if=/dev/zero of=/small bs=1M count=20", buildkit=builder == "buildkit"
    ).end()
    assert code == 0, output


@pytest.mark.full
@pytest.mark.timeout(3 * 3600, method="signal")
@pytest.mark.parametrize("builder", ["buildkit", "classic"])
@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_twenty_of_twenty_builds_are_stopped(machines: Callable[..., Machine], suite: str, builder: str) -> None:
    machine = prepared(machines("twenty", suite=suite, docker="preinstalled"))
    try:
        leave_free(machine, FLOOR + 900 * 2**20)
        for number in range(20):
            assert_aborted_in_time(machine, builder == "buildkit", number)
    finally:
        machine.destroy()


@SELDOM
def test_only_as_many_builds_as_needed_are_stopped_and_the_fastest_first(machine: Machine) -> None:
    # Data that a build wrote earlier says nothing about its speed. Without BuildKit, Docker copies a step when it ends:
    # leave space for that.
    begun = "dd if=/dev/zero of=/begun bs=1M count={} 2>/dev/null; "
    slow = 'exec sh -c "while sleep 0.5; do dd if=/dev/zero of=/part bs=1M count=1 2>/dev/null; done"'
    builds = [
        Build(machine, "slow1", f"RUN {begun.format(150)}{slow}"),
        Build(machine, "slow2", f"RUN {begun.format(300)}{slow}", buildkit=False),
    ]
    wait_until(lambda: processes(machine, LOOP) == 2)
    leave_free(machine, FLOOR + 900 * 2**20)
    start_sampler(machine)
    fast = Build(machine, "fast", f"RUN {FILL}")
    code, output = fast.end()
    assert code not in (0, 255), output
    assert lowest_free(machine) > FLOOR - MISSED
    assert [build.process.poll() for build in builds] == [None] * 2, journal(machine)
    wait_until(lambda: end_loops(machine) == 0)
    for build in builds:
        code, output = build.end()
        assert code == 0, output + journal(machine)
    assert journal(machine).count("stops the build") == 1


@pytest.mark.full
def test_containers_are_never_stopped_whatever_they_look_like(machine: Machine) -> None:
    writes = "while true; do dd if=/dev/zero of=/file bs=1M count=4 2>/dev/null; sleep 5; done"
    machine.run(
        "image=$(docker images --quiet --no-trunc box); for n in $(seq 1 20); do case $((n % 4)) in "
        f"0) set -- --log-driver none $image /bin/sh -c '{writes}';; "
        f"1) set -- --name fills$n --log-driver none $image /bin/sh -c '{writes}';; "
        f"2) set -- --log-driver none --no-healthcheck $image /bin/sh -c '{writes}';; "
        f"*) set -- --name buildkit$n box sh -c '{writes}';; esac; docker run --detach --network none \"$@\" >/dev/null; done",
        timeout=600,
    )
    ran = machine.out("docker ps --quiet | sort")
    assert len(ran.split()) == 20
    leave_free(machine, FLOOR + 500 * 2**20)
    for buildkit in (True, False):
        code, output = Build(machine, "fills", f"RUN {FILL}", buildkit=buildkit).end()
        assert code not in (0, 255), output
    # Only the containers are left to stop, and less than the floor is free.
    leave_free(machine, FLOOR // 2)
    time.sleep(10)
    assert machine.out("docker ps --quiet | sort") == ran
    # Count steps only: the guard may also interrupt a client that takes long to end, which is no container.
    assert journal(machine).count("stops the build step") == 2


@SELDOM
def test_small_builds_go_on_while_a_container_fills_the_volume(machine: Machine) -> None:
    little = "while :; do dd if=/dev/zero bs=1M count=1 2>/dev/null >>/part; sleep 1; done"
    # BuildKit runs equal steps of several builds only once.
    builds = [Build(machine, f"small{n}", f"RUN : {n}; {little}", buildkit=n < 3) for n in range(4)]
    wait_until(lambda: processes(machine, "/bin/sh -c : [0-3]; while :; do dd .*") == 4)
    leave_free(machine, FLOOR + 300 * 2**20)
    much = "i=0; while :; do dd if=/dev/zero of=/part$i bs=1M count=30 2>/dev/null; i=$((i+1)); sleep 0.5; done"
    container = machine.out(f"docker run --detach --network none box sh -c '{much}'").strip()
    wait_until(lambda: "no build that the guard may stop" in journal(machine))
    wait_until(lambda: f"in the container {container[:12]}" in journal(machine))
    wait_until(lambda: BALLAST_GONE in journal(machine), 300)
    assert [build.process.poll() for build in builds] == [None] * 4, journal(machine)
    assert "stops the build" not in journal(machine)
    machine.run(f"docker rm --force {container}", timeout=300)
    machine.run("pkill -INT -x docker", check=False)
    for build in builds:
        build.end()


@SELDOM
@BOTH_ENGINES
@pytest.mark.parametrize("builder", ["buildkit", "classic"])
def test_build_of_small_files_is_stopped_before_the_inodes_are_used_up(machine: Machine, builder: str) -> None:
    floor = 50_000  # of the 390,000 inodes that ext4 gives 6 GiB
    machine.run(
        f"python3 -c \"import os; os.mkdir('{VOLUME}/many'); "
        f"[os.mknod('{VOLUME}/many/%d' % n) for n in range(os.statvfs('{VOLUME}').f_ffree - {floor} - 20_000)]\"",
        timeout=900,
    )
    # Empty files: neither bytes nor write calls show them.
    touches = "i=0; mkdir /many; cd /many; while :; do touch $(seq $i $((i + 199))); i=$((i + 200)); done"
    code, output = Build(machine, "files", f"RUN {touches}", buildkit=builder == "buildkit").end()
    assert code not in (0, 255), output
    assert "inodes/s and would fall below its floor of 50000 inodes" in journal(machine)
    left = int(machine.out(f"df --output=iavail {VOLUME} | tail -n 1"))
    assert left > floor // 2
    machine.run("docker run --rm --network none box true")


@SELDOM
def test_build_that_runs_no_step_is_stopped_through_its_client(machine: Machine) -> None:
    machine.run("mkdir -p /root/context && head -c 200M /dev/urandom >/root/context/large")
    leave_free(machine, FLOOR + 50 * 2**20)
    start_sampler(machine)
    code, output = Build(machine, "copies", "COPY . /app", "RUN sleep 20", context="/root/context").end()
    assert code not in (0, 255), output
    assert "the build command `docker build" in journal(machine), output
    assert machine.out("systemctl is-active docker") == "active"
    assert lowest_free(machine) > FLOOR - MISSED
    wait_until(lambda: machine.out("docker system df --format '{{.Size}}'").splitlines()[-1] == "0B")
    # Docker 20.10 has deleted the file that it was receiving, but keeps it open.
    machine.run("systemctl restart docker", timeout=300)
    assert free(machine) > FLOOR


@SELDOM
def test_builder_in_a_container_is_stopped_through_its_client(machine: Machine) -> None:
    # No registry with BuildKit's image is in reach. Only the names of its program and of its client matter here.
    machine.run(
        "mkdir -p /root/builder && cd /root/builder && cp /bin/dd buildkitd && "
        "ldd /bin/dd | grep -o '/[^ )]*' | while read library; do mkdir -p ./$(dirname $library) && cp -L $library ./$library; done; "
        "tar -c . | docker import - builder >/dev/null"
    )
    client = start(
        [
            *machine.ssh_command(user="root"),
            "exec bash -c 'exec -a docker python3 -c \"import socket, time; s = socket.socket(socket.AF_UNIX); "
            's.connect(\\"/run/docker.sock\\"); time.sleep(600)" buildx build .\'',
        ]
    )
    wait_until(lambda: "\ndocker -c" in machine.out("ps -eo args"))
    # Half of what it writes goes below the floor, however slowly it writes.
    leave_free(machine, FLOOR + 300 * 2**20)
    machine.run(
        "docker run --detach --name builder0 --network none builder /buildkitd if=/dev/zero of=/big bs=1M count=600"
    )
    output, _ = client.communicate(timeout=300)
    assert client.returncode != 0
    assert "docker-guard interrupts this" in output
    assert "stops the build command `docker" in journal(machine)
    assert machine.out("docker inspect --format '{{.State.ExitCode}}' builder0") == "0", (
        "the guard has stopped the container"
    )


@SELDOM
def test_client_of_another_engine_is_left_alone(machine: Machine) -> None:
    """An engine that never answers stands for one on another host: the client waits for it, whatever happens here."""
    machine.run(
        "mkdir -p /root/fat /root/far && head -c 300M /dev/urandom >/root/fat/file; echo FROM box >/root/far/Dockerfile"
    )
    listen = 'import socket, time; s = socket.create_server(("127.0.0.1", 2999)); time.sleep(600)'
    machine.run(f"systemd-run --quiet --unit=far-engine python3 -c '{listen}'")
    wait_until(lambda: ":2999" in machine.out("ss -Hltn"))
    machine.run(
        "systemd-run --quiet --unit=far-client --setenv=HOME=/root docker -H tcp://127.0.0.1:2999 build /root/far"
    )
    time.sleep(2)  # a client that has begun a moment ago is left alone anyway
    leave_free(machine, FLOOR + 50 * 2**20)
    machine.run("tar -C /root/fat -c . | docker import - fat >/dev/null", timeout=600)
    time.sleep(2)
    assert free(machine) < FLOOR
    assert machine.out("systemctl is-active far-client far-engine").split() == ["active", "active"], journal(machine)
    assert "stops the build" not in journal(machine)


# An image of symlinks and a few files of /etc: with the host's /usr it runs the host's own Docker. No registry is in reach.
DIND = (
    "mkdir -p /root/dind && cd /root/dind && mkdir -p etc proc sys dev run tmp usr var/lib && ln -s ../run var/run && "
    "for name in bin sbin lib lib64; do ln -s usr/$name $name; done && "
    "cp -a /etc/passwd /etc/group /etc/nsswitch.conf /etc/alternatives /etc/ld.so.* etc/ && "
    "tar -c . | docker import - dind >/dev/null"
)
# As the entry point of docker:dind does it: processes leave the root of the control groups, so that it can be divided.
START_DIND = (
    "mkdir -p /sys/fs/cgroup/init && echo 1 >/sys/fs/cgroup/init/cgroup.procs && "
    'sed "s/ / +/g; s/^/+/" /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control; '
    "exec dockerd --bridge=none --iptables=false --ip-forward=false"
)


@SELDOM
@BOTH_ENGINES
def test_build_in_a_docker_in_a_container_is_stopped_and_the_container_is_not(machine: Machine) -> None:
    machine.run(DIND)
    machine.run(
        "docker run --detach --name dind --privileged --network none --volume /usr:/usr:ro --volume /var/lib/docker "
        f"dind /bin/sh -c '{START_DIND}'"
    )
    wait_until(lambda: machine.run("docker exec dind docker version", check=False).returncode == 0)
    machine.run("docker save box | docker exec --interactive dind docker load", timeout=300)
    leave_free(machine, FLOOR + 900 * 2**20)
    start_sampler(machine)
    build = "docker build --no-cache --network none -"
    done = machine.run(
        f"printf 'FROM box\\nRUN {FILL}\\n' | docker exec --interactive --env DOCKER_BUILDKIT=1 dind {build} 2>&1",
        check=False,
        timeout=600,
    )
    assert done.returncode not in (0, 255), done.stdout
    assert "docker-guard stops this build" in done.stdout, done.stdout
    assert lowest_free(machine) > FLOOR - MISSED
    assert journal(machine).count("stops the build step") == 1
    assert "stops the build command" not in journal(machine)
    assert machine.out("docker inspect --format '{{.State.Running}}' dind") == "true"
    # The Docker in the container still builds what fits.
    machine.run(
        f"printf 'FROM box\\nRUN true\\n' | docker exec --interactive --env DOCKER_BUILDKIT=1 dind {build}", timeout=300
    )


@SELDOM
def test_ballast_keeps_docker_answering_on_a_volume_that_fills_at_once(machine: Machine) -> None:
    had = free(machine)
    # Take all free space at once, with most of what the filesystem reserves for root.
    machine.run(f"fallocate -l $(($(stat --file-system --format='%f * %S' {VOLUME}) - 24 * 1024 * 1024)) {VOLUME}/hog")
    # Docker can use what the filesystem reserves for root.
    wait_until(lambda: int(machine.out(f"stat --file-system --format=%f {VOLUME}")) * 4096 > 50 * 2**20, 60)
    wait_until(lambda: BALLAST_GONE in journal(machine))
    machine.run("docker run --rm --network none box true")
    machine.run(f"rm {VOLUME}/hog*")
    wait_until(lambda: machine.run(f"test -s {VOLUME}/.bulkhead-ballast", check=False).returncode == 0)
    assert abs(free(machine) - had) < 100 * 2**20


@SELDOM
def test_guard_that_dies_or_hangs_comes_back(machine: Machine) -> None:
    pid = "systemctl show docker-guard.service --property MainPID --value"
    first = machine.out(pid)
    machine.run(f"kill -KILL {first}")
    wait_until(lambda: machine.out(pid) not in ("0", first))
    second = machine.out(pid)
    machine.run(f"kill -STOP {second}")
    wait_until(lambda: machine.out(pid) not in ("0", second))
    wait_until(lambda: machine.out("systemctl is-active docker-guard.service || true") == "active")


@SELDOM
def test_guard_runs_a_replaced_program(machine: Machine) -> None:
    pid = "systemctl show docker-guard.service --property MainPID --value"
    old = machine.out(pid)
    machine.run("printf x >>/usr/local/bin/bulkhead")
    converge(machine, **SETTINGS)
    wait_until(lambda: machine.out(pid) not in ("0", old))
    started = 'date --date "$(systemctl show docker-guard.service --property ActiveEnterTimestamp --value)" +%s'
    wait_until(
        lambda: (
            machine.out(f"[ $({started}) -gt $(stat --format %Z /usr/local/bin/bulkhead) ] && echo new || true")
            == "new"
        )
    )
    assert machine.out("systemctl is-active docker-guard.service") == "active"
    assert dry(machine, **SETTINGS).predicted == set()


@SELDOM
def test_rescue_starts_an_engine_that_a_full_volume_has_stopped(machine: Machine) -> None:
    machine.run("systemctl stop docker-guard.service docker.socket docker.service")
    machine.run(
        f"rm -f {VOLUME}/.bulkhead-ballast; fallocate -l $(df --output=avail -B1 {VOLUME} | tail -n 1) {VOLUME}/hog; "
        f"cat /dev/zero >{VOLUME}/hog2",
        check=False,
        timeout=600,
    )
    assert free(machine) == 0
    size = int(machine.out("lvs --noheadings --nosuffix --units b -o lv_size ubuntu-vg/docker-lv"))
    planned = machine.out("bulkhead rescue --dry-run", timeout=900)
    assert free(machine) == 0
    output = machine.out("bulkhead rescue", timeout=900)
    assert machine.out("systemctl is-active docker") == "active"
    assert free(machine) >= FLOOR, output
    assert int(machine.out("lvs --noheadings --nosuffix --units b -o lv_size ubuntu-vg/docker-lv")) > size
    assert "ubuntu-vg" in planned
    machine.run("docker run --rm --network none box true")


@SELDOM
def test_guarded_build_checks_the_space_remembers_what_it_took_and_reports_how_it_ended(machine: Machine) -> None:
    machine.run(
        "mkdir -p /root/app && printf 'FROM box\\nRUN dd if=/dev/zero of=/big bs=1M count=200\\n' >/root/app/Dockerfile"
    )
    build = "bulkhead build {} -- --no-cache --network none --tag app /root/app"
    before = free(machine)
    start_sampler(machine)
    output = machine.run(build.format("--need 400M"), timeout=300)
    took = before - lowest_free(machine)
    assert machine.out("docker images --quiet app")
    known = machine.out("bulkhead preflight -- --tag app /root/app")
    estimated = re.search(r"earlier build took up to ([\d.]+) MiB, and 10 % more", known)
    assert estimated, known
    assert abs(1.1 * float(estimated[1]) * 2**20 - took) < 0.2 * took, f"{known}; it took {took / 2**20:.0f} MiB"
    refused = machine.run(build.format("--need 900G"), check=False, timeout=300)
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert "900G" in refused.stdout + refused.stderr
    machine.run(f"printf 'FROM box\\nRUN {FILL}\\n' >/root/app/Dockerfile")
    leave_free(machine, FLOOR + 900 * 2**20)
    stopped = machine.run(build.format("--need 100M"), check=False, timeout=300)
    assert stopped.returncode == 4, output.stdout + stopped.stdout + stopped.stderr
