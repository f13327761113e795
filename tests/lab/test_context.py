"""`bulkhead context` against a real Docker: what it says is sent is what COPY brings into an image, and its proofs hold."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bulkhead.dockerfile.context import SENT, Selection, walk
from bulkhead.dockerfile.ignore import IgnoreRules
from bulkhead.dockerfile.patterns import PatternError, parse
from lab.machine import Machine
from tests.lab.conftest import install_program_alone
from tests.unit.bulkhead.dockerfile.test_patterns import FILES, MATCHES

_MAKE = """
import json, os, sys
for path in json.load(sys.stdin):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    open(path, "w").close()
"""

# Builds an image of the context with each .dockerignore, and prints the files in each; null where Docker refuses it.
_BUILD = """
import json, os, subprocess, sys
os.environ["DOCKER_BUILDKIT"] = "1"
def run(*words):
    return subprocess.run(words, capture_output=True, text=True)
found = []
for content in json.load(sys.stdin):
    open("/root/d", "w").write("FROM scratch\\nCOPY . /ctx/\\n")
    open("/root/d.dockerignore", "w").write(content + "\\n")
    built = run("docker", "build", "-f", "/root/d", "-t", "listed", "/root/ctx")
    if built.returncode:
        found.append(None)
        continue
    container = run("docker", "create", "listed", "x").stdout.strip()
    listed = subprocess.run("docker export " + container + " | tar --quoting-style=literal -t", shell=True, capture_output=True, text=True).stdout
    run("docker", "rm", container)
    found.append(sorted(line[4:] for line in listed.splitlines() if line.startswith("ctx/") and not line.endswith("/")))
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def machine(
    request: pytest.FixtureRequest, machines: Callable[..., Machine], tmp_path_factory: pytest.TempPathFactory
) -> Machine:
    """Return a machine with Docker and without the deploy, and with the program as `scripts/program` writes it."""
    machine = machines(f"context-{request.param}", suite=request.param, docker="preinstalled")
    install_program_alone(machine, tmp_path_factory.mktemp("program"))
    return machine


@pytest.mark.full
def test_what_is_sent_is_what_docker_copies(machine: Machine, tmp_path: Path) -> None:
    paths = {path for _, path, _ in [*MATCHES, *FILES] if path.isprintable()}
    paths.discard("/")
    files = sorted(path for path in paths if not any(each.startswith(path + "/") for each in paths))
    for path in files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    made = f"printf '%s' {_encoded(json.dumps(files))} | base64 -d | {_python(_MAKE)}"
    machine.run(f"rm -rf /root/ctx; mkdir /root/ctx; cd /root/ctx; {made}")
    contents = list(dict.fromkeys([pattern for pattern, _, _ in MATCHES] + [content for content, _, _ in FILES]))
    if machine.recipe and machine.recipe.suite == "bookworm":
        # Docker before 23.0 takes these for regular expressions (moby, pull request 42961).
        contents = [content for content in contents if not set(content) & set("()+|{}^") or "[" in content]
    assert len(contents) >= 90
    script = f"printf '%s' {_encoded(json.dumps(contents))} | base64 -d | {_python(_BUILD)}"
    found = json.loads(machine.out(script, timeout=3600))
    assert dict(zip(contents, found, strict=True)) == {content: _sent(tmp_path, content) for content in contents}


def _python(script: str) -> str:
    return f"python3 -c \"$(printf '%s' {_encoded(script)} | base64 -d)\""


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _sent(context: Path, content: str) -> list[str] | None:
    try:
        rules = IgnoreRules(parse(content.encode(), "x"))
    except PatternError:
        return None
    entries = walk(str(context), rules, Selection(str(context)))
    return sorted(entry.path for entry in entries if entry.fate == SENT and not entry.is_directory)


@pytest.mark.full
def test_proposal_is_proved_with_a_real_docker(machine: Machine) -> None:
    machine.run(
        "rm -rf /root/app; mkdir -p /root/app/src/__pycache__ /root/app/.git /root/app/models; cd /root/app; "
        "head -c 3M /dev/zero >.git/pack; echo x >src/main.py; echo y >src/__pycache__/main.pyc; head -c 2M /dev/zero >models/m.pt; "
        "printf 'FROM scratch\\nCOPY . /app/\\nCOPY src /src/\\n' >Dockerfile; echo '*.tmp' >.dockerignore"
    )
    images = machine.out("docker images --all --quiet | sort")
    proved = machine.run("cd /root/app && bulkhead context --prove", timeout=600)
    assert "\nproved: the image loses " in proved.stdout
    assert machine.out("docker images --all --quiet | sort") == images
    assert machine.out("docker ps --all --quiet") == ""
    assert machine.out("cat /root/app/.dockerignore") == "*.tmp"
    machine.run("cd /root/app && bulkhead context --write --yes && docker build -q -t app . >/dev/null", timeout=600)
    container = machine.out("docker create app x")
    listed = machine.out(f"docker export {container} | tar -t")
    assert "app/models/m.pt" in listed
    assert ".git" not in listed
    assert "__pycache__" not in listed
