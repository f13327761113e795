"""`bulkhead build --bill` against a real Docker: its figures are what is measured from outside, and the gate holds them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

from lab.machine import Machine
from tests.lab.conftest import install_program_alone

M = 2**20

# What the steps of both stages leave is known: 60 + 30 MiB, 40 MiB of which are copied; 20 MiB that are overwritten, and 25 MiB
# that are removed again.
_DOCKERFILE = """\
FROM scratch AS build
COPY bin/busybox /bin/sh
COPY bin/busybox /bin/busybox
RUN busybox dd if=/dev/urandom of=/big bs=1M count=60 && busybox dd if=/dev/urandom of=/more bs=1M count=30
RUN busybox rm /more && busybox dd if=/dev/urandom of=/out bs=1M count=40
FROM scratch
COPY bin/busybox /bin/sh
COPY bin/busybox /bin/busybox
COPY data.bin /data.bin
COPY --from=build /out /models/m.safetensors
RUN busybox dd if=/dev/urandom of=/data.bin bs=1M count=10 && busybox dd if=/dev/zero of=/junk bs=1M count=25
RUN busybox rm /junk
"""

# Prints the most that was in use above the start, until /tmp/stop is there.
_SAMPLER = """
import os, time
def used():
    counts = os.statvfs("/var/lib/docker")
    return (counts.f_blocks - counts.f_bfree) * counts.f_frsize
start = most = used()
open("/tmp/sampling", "w").close()
while not os.path.exists("/tmp/stop"):
    most = max(most, used())
    time.sleep(0.02)
print(most - start)
"""

_SUM = "awk '/^-/ {sum += $3} END {printf \"%d\", sum}'"  # of the sizes of files that tar lists
_LAYERS = "import json; print(*json.load(open('/tmp/saved/manifest.json'))[0]['Layers'])"


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def machine(
    request: pytest.FixtureRequest, machines: Callable[..., Machine], tmp_path_factory: pytest.TempPathFactory
) -> Machine:
    """Return a machine with Docker and without the deploy, and with a user who may use Docker and is not root."""
    machine = machines(f"bill-{request.param}", suite=request.param, docker="preinstalled")
    install_program_alone(machine, tmp_path_factory.mktemp("program"))
    machine.run(
        "useradd --create-home --groups docker ci; mkdir -p /srv/app/bin; cp /bin/busybox /srv/app/bin/; cd /srv/app; "
        "head -c 20M /dev/urandom >data.bin; "
        f"cat >Dockerfile <<'EOT'\n{_DOCKERFILE}EOT\n"
        f"cat >/root/sampler.py <<'EOT'\n{_SAMPLER}EOT"
    )
    return machine


def as_user(machine: Machine, command: str, *, buildkit: bool = True) -> subprocess.CompletedProcess[str]:
    words = f"cd /srv/app && DOCKER_BUILDKIT={int(buildkit)} {command}"
    return machine.run(f"su - ci -c '{words}'", check=False, timeout=1200)


def built(machine: Machine, tag: str, options: str = "", *, buildkit: bool = True) -> dict[str, Any]:
    """Build the image, and return its bill."""
    done = as_user(machine, f"bulkhead build --bill {options} -- -t {tag} --network=none .", buildkit=buildkit)
    assert done.returncode == 0, done.stderr
    bill: dict[str, Any] = json.loads(as_user(machine, f"bulkhead bill {tag} --json").stdout)
    return bill


def near(measured: int) -> Any:
    return pytest.approx(measured, rel=0.05)


@pytest.mark.full
@pytest.mark.parametrize("buildkit", [True, False], ids=["buildkit", "classic"])
def test_peak_is_what_is_sampled_from_outside(machine: Machine, buildkit: bool) -> None:
    machine.run("docker system prune --all --force >/dev/null 2>&1; sync; rm -f /tmp/stop /tmp/sampling")
    machine.run(
        "nohup python3 /root/sampler.py >/root/peak 2>&1 </dev/null & until [ -e /tmp/sampling ]; do sleep 0.2; done"
    )
    try:
        bill = built(machine, "app:peak", "--save=never", buildkit=buildkit)
    finally:
        machine.run("touch /tmp/stop; sleep 2")
    assert bill["peak"] == near(int(machine.out("cat /root/peak")))
    assert bill["peak"] > 190 * M
    assert bill["unknown"]["wasted"] == "--save=never: the image was not read"
    wrote = [step["wrote"] for step in bill["steps"] if "count=60" in step["text"]]
    assert wrote == ([near(90 * M)] if buildkit else [None])


@pytest.mark.full
@pytest.mark.parametrize("buildkit", [True, False], ids=["buildkit", "classic"])
def test_image_is_what_docker_save_and_docker_export_have(machine: Machine, buildkit: bool) -> None:
    bill = built(machine, "app:image", "--save=always", buildkit=buildkit)
    machine.run("rm -rf /tmp/saved; mkdir /tmp/saved; docker save app:image | tar -C /tmp/saved -x")
    layers = machine.out(f'python3 -c "{_LAYERS}"').split()
    in_layers = int(machine.out(f"cd /tmp/saved; for layer in {' '.join(layers)}; do tar -tvf $layer; done | {_SUM}"))
    container = machine.out("docker create app:image x")
    visible = int(machine.out(f"docker export {container} | tar -tv | {_SUM}"))
    machine.run(f"docker rm {container} >/dev/null")
    assert bill["size"] == near(in_layers)
    assert bill["wasted"] == near(in_layers - visible)
    assert bill["wasted"] == near(45 * M)
    assert bill["models"] == near(40 * M)
    assert bill["layers"] == len(layers) == 6
    assert [place["path"] for place in bill["places"]] == ["junk", "data.bin"]
    busybox = int(machine.out("stat --format=%s /bin/busybox"))
    assert bill["context"] == near(20 * M + busybox + (0 if buildkit else len(_DOCKERFILE)))
    image = {step["text"].rpartition("] ")[2].partition(" count")[0]: step["image"] for step in bill["steps"]}
    assert image["COPY data.bin /data.bin"] == near(20 * M)
    assert image["COPY --from=build /out /models/m.safetensors"] == near(40 * M)


@pytest.mark.full
def test_second_build_comes_from_the_cache(machine: Machine) -> None:
    first = built(machine, "app:cache", "--save=never")
    second = built(machine, "app:cache", "--save=never")
    assert all(step["is_cached"] for step in second["steps"])
    assert len(second["steps"]) == len(first["steps"]) > 6
    assert second["peak"] < 20 * M
    compared = as_user(machine, f"bulkhead bill compare {first['number']} {second['number']} --svg /home/ci/pair.svg")
    assert compared.returncode == 0, compared.stderr
    assert "peak on disk" in compared.stdout
    ElementTree.fromstring(machine.out("cat /home/ci/pair.svg"))


@pytest.mark.full
def test_gate_holds_the_image_to_its_limits(machine: Machine) -> None:
    built(machine, "app:gate", "--save=always")
    for limits, code in (
        ("--image 200M --layers 6 --wasted 60% --peak 10G --increase 10%", 0),
        ("--image 90M", 1),
        ("--models 0 --compressed 1G", 1),
        ("--compressed 1G", 3),
    ):
        done = as_user(machine, f"bulkhead gate app:gate {limits} --junit /home/ci/gate.xml")
        assert done.returncode == code, f"{limits}\n{done.stdout}{done.stderr}"
        suite = ElementTree.fromstring(machine.out("cat /home/ci/gate.xml")).find("testsuite")
        assert suite is not None
        assert (suite.attrib["failures"] != "0") == (code == 1)
    assert as_user(machine, "bulkhead gate nothing --image 1G").returncode == 3
