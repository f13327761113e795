"""The example, built and run on a real Docker: the improved image keeps what its README claims. Debian 12 and 13."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.machine import Machine
from tests.lab.conftest import install_program_alone, wait_until

# They take turns in the sample, and join it once they have passed on a machine.
pytestmark = [pytest.mark.turn, pytest.mark.full]

TOP = Path(__file__).parent.parent.parent
HOME = "/srv/audio-voice"
M = 2**20
DEVEL, RUNTIME = "audio-voice-base:devel", "audio-voice-base:runtime"

# What must be less, and by how much: the claims of the incident's review.
CLAIMS = {"peak": 0.40, "size": 0.35, "layers": 1 / 3, "context": 0.80, "models": 1.0}


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def machine(
    request: pytest.FixtureRequest, machines: Callable[..., Machine], tmp_path_factory: pytest.TempPathFactory
) -> Machine:
    """Return a machine with Docker, without the deploy and without a registry, that has the example and its base images."""
    machine = machines(f"example-{request.param}", suite=request.param, docker="preinstalled")
    scratch = tmp_path_factory.mktemp("example")
    install_program_alone(machine, scratch)
    tree = ["mmdebstrap", "--quiet", "--variant=apt", "--include=python3,python3-pip"]
    tree += ["--aptopt=Apt::Install-Recommends false", "bookworm", str(scratch / "tree.tar")]
    subprocess.run(tree, check=True)
    copy(machine, ["cat", str(scratch / "tree.tar")], "docker import - tree >/dev/null")
    copy(machine, ["tar", "-C", str(TOP / "examples/audio-voice"), "-c", "."], f"mkdir {HOME}; tar -C {HOME} -x")
    # What the history of a project has, and its caches.
    machine.run(f"cd {HOME}; mkdir -p .git/objects/pack; head -c 200K /dev/urandom >.git/objects/pack/pack-1.pack")
    for target, tag in (("runtime", RUNTIME), ("devel", DEVEL)):
        docker(machine, f"build --network none --build-arg FROM_IMAGE=tree --target {target} --tag {tag} base")
    return machine


def copy(machine: Machine, command: list[str], to: str) -> None:
    """Feed the output of a command of ours to one of the machine."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as source:
        subprocess.run([*machine.ssh_command(user="root"), to], stdin=source.stdout, check=True)
    assert source.returncode == 0


def docker(machine: Machine, arguments: str) -> str:
    return machine.out(f"cd {HOME} && DOCKER_BUILDKIT=1 docker {arguments}", timeout=3600)


@pytest.fixture(scope="module")
def figures(machine: Machine) -> dict[str, list[Any]]:
    """Build both images, and return the figures of their bills."""
    for tag, arguments in (("before", "--file Dockerfile.before"), ("after", f"--build-arg BASE={RUNTIME}")):
        machine.run(
            f"cd {HOME} && DOCKER_BUILDKIT=1 bulkhead build --bill --save=always -- --no-cache --network none {arguments} "
            f"--build-arg BUILDER={DEVEL} --tag audio-voice:{tag} .",
            timeout=3600,
        )
    compared = machine.out("bulkhead bill compare audio-voice:before audio-voice:after --json")
    figures: dict[str, list[Any]] = json.loads(compared)["figures"]
    return figures


@pytest.mark.parametrize("figure", CLAIMS)
def test_improved_image_keeps_the_claims_of_the_incidents_review(figures: dict[str, list[Any]], figure: str) -> None:
    before, after = figures[figure]
    assert before > 0
    assert after <= before * (1 - CLAIMS[figure]), f"{figure}: {before} → {after}"


def test_image_before_is_the_incidents_in_small(figures: dict[str, list[Any]]) -> None:
    """A tenth of what the incident wrote: 18.5 GB above the base, 4 GB of them models, and a PyTorch that is replaced."""
    assert figures["peak"][0] == pytest.approx(1893 * M, rel=0.1)
    assert figures["models"][0] == pytest.approx(410 * M, rel=0.01)
    assert figures["wasted"][0] > 390 * M
    assert figures["wasted"][1] < 20 * M


@pytest.mark.usefixtures("figures")
def test_gate_of_the_example_lets_the_improved_image_pass_and_not_the_other(machine: Machine) -> None:
    for tag, code in (("after", 0), ("before", 1)):
        done = machine.run(f"cd {HOME} && bulkhead gate audio-voice:{tag}", check=False)
        assert done.returncode == code, done.stdout + done.stderr


def health(machine: Machine) -> str:
    return machine.out("docker inspect --format '{{.State.Health.Status}}' voice")


def start(machine: Machine, image: str, *options: str) -> None:
    machine.run(
        f"docker rm --force voice >/dev/null 2>&1; docker run --detach --init --network voice --name voice {' '.join(options)} {image}"
    )


@pytest.mark.usefixtures("figures")
def test_service_downloads_its_models_once_becomes_healthy_and_speaks(machine: Machine) -> None:
    models = f"--volume {HOME}/models.json:/models.json:ro"
    machine.run(
        f"docker network create voice; docker run --detach --network voice --name hub {models} {RUNTIME} "
        "python3 /opt/stand-ins/hub.py /models.json"
    )
    volume = "--volume models_cache:/app/models"
    start(machine, "audio-voice:after", volume, "--env MODELS_URL=http://hub:8000")
    assert health(machine) == "starting"
    wait_until(lambda: health(machine) == "healthy", 900)
    assert machine.out("docker logs voice 2>&1 | grep -c verified") == "2"
    speak = "import urllib.request; print(len(urllib.request.urlopen('http://127.0.0.1:8000/speak?text=hello').read()))"
    assert int(machine.out(f'docker exec voice python3 -c "{speak}"')) > 10_000
    machine.run("docker rm --force hub")
    start(machine, "audio-voice:after", volume)
    wait_until(lambda: health(machine) == "healthy", 300)
    assert "verified" not in machine.out("docker logs voice 2>&1")


@pytest.mark.usefixtures("figures")
def test_service_without_a_network_ends_with_the_reason(machine: Machine) -> None:
    machine.run("docker network inspect voice >/dev/null 2>&1 || docker network create voice")
    start(machine, "audio-voice:after", "--volume other_models:/app/models")
    assert machine.out("docker wait voice") == "3"
    assert "MODELS_URL does not say where they are" in machine.out("docker logs voice 2>&1")


@pytest.mark.usefixtures("figures")
def test_service_before_has_its_models_in_the_image(machine: Machine) -> None:
    machine.run("docker network inspect voice >/dev/null 2>&1 || docker network create voice")
    start(machine, "audio-voice:before")
    wait_until(lambda: health(machine) == "healthy", 600)
    assert "downloading" not in machine.out("docker logs voice 2>&1")
