"""`bulkhead context --prove`, with a docker whose images are what it finds in the context."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from bulkhead import command_line
from bulkhead.context.proof import Inode, compare
from bulkhead.dockerfile import patterns
from bulkhead.dockerfile.ignore import IgnoreRules

from .contexts import M, make

# Images are archives of the name of their tag. Most calls need no Python, which takes longer to start than all the rest.
DOCKER = """#!/bin/sh
echo "$*" >>{top}/calls
case $1 in
    build) exec {python} -IS {top}/build.py "$@" ;;
    create) echo "${{2%:*}}_${{2#*:}}" ;;
    export) cat {top}/"$2" ;;
esac
"""

# Copies the context to /app, less what the .dockerignore beside the Dockerfile names, and does what `also` says.
BUILD = """
import io, os, sys, tarfile
top = {top!r}
sys.path.insert(0, {project!r})
sys.dont_write_bytecode = True
from bulkhead.dockerfile.context import SENT, Selection, walk
from bulkhead.dockerfile.ignore import IgnoreRules
words = sys.argv[2:]
file, tag, context = words[words.index("--file") + 1], words[words.index("--tag") + 1], words[-1]
print("building", open(file).readline())
assert os.environ["DOCKER_BUILDKIT"] == "1"
files = {{}}
for entry in walk(context, IgnoreRules.of_file(file + ".dockerignore"), Selection(context)):
    if entry.fate == SENT:
        files["app/" + entry.path] = None if entry.is_directory else open(context + "/" + entry.path, "rb").read()
kind = tag.rpartition("-")[2]
{also}
with tarfile.open(top + "/" + tag.replace(":", "_"), "w") as archive:
    for path, content in sorted(files.items()):
        member = tarfile.TarInfo(path)
        member.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
        member.size, member.mtime = len(content or b""), os.getpid()
        archive.addfile(member, io.BytesIO(content or b""))
"""


class FakeDocker:
    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.top = top
        (top / "bin").mkdir(parents=True)
        monkeypatch.setenv("PATH", f"{top}/bin:{os.environ['PATH']}")
        (top / "bin/docker").write_text(DOCKER.format(python=sys.executable, top=top))
        (top / "bin/docker").chmod(0o755)
        self.does("pass")

    def does(self, also: str) -> None:
        """Have each build do this beside: Python that knows the files of the image, and whether it is before or after."""
        project = str(Path(__file__).parents[4])
        (self.top / "build.py").write_text(BUILD.format(top=str(self.top), project=project, also=also))

    @property
    def calls(self) -> list[str]:
        return (self.top / "calls").read_text().splitlines()


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    return FakeDocker(tmp_path / "docker", monkeypatch)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    top = tmp_path / "app"
    make(top, "main.py", "src/a.py", ".git/HEAD", "src/__pycache__/a.pyc", "models/m.pt", size=100)
    make(top, "models/m.pt", size=2 * M)
    (top / "Dockerfile").write_text("FROM a AS base\nCOPY . .\nRUN pip install .\n")
    (top / ".dockerignore").write_text("*.tmp\n")
    return top


def prove(app: Path, *words: str) -> int:
    return command_line.main(["context", str(app), "--prove", *words])


@pytest.mark.usefixtures("docker")
def test_images_that_differ_in_nothing_but_what_the_lines_name_are_a_proof(
    app: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert prove(app) == 0
    printed = capfd.readouterr()
    assert printed.out.endswith(
        "\nproved: the image loses 4 files with 200 bytes, all of them named by the lines. 7 others are the same\n"
    )
    assert printed.err.count("building FROM a AS base") == 2, "docker's output is shown"
    assert sorted(os.listdir(app)) == [".dockerignore", ".git", "Dockerfile", "main.py", "models", "src"]
    assert (app / ".dockerignore").read_text() == "*.tmp\n"


def test_builds_get_the_arguments_and_leave_nothing_behind(docker: FakeDocker, app: Path) -> None:
    words = [
        "--target",
        "base",
        "--build-arg",
        "A=b",
        "--build-context",
        "x=docker-image://y",
        "--platform",
        "linux/amd64",
    ]
    assert prove(app, *words) == 0
    builds = [call for call in docker.calls if call.startswith("build ")]
    assert len(builds) == 2
    for call in builds:
        assert "--build-arg A=b --build-context x=docker-image://y --target base --platform linux/amd64 " in call
        assert call.endswith(f" {app}")
        assert not os.path.exists(call.split()[2]), "the Dockerfile that it was built with"
    names = {call.split()[4] for call in builds}
    assert {call for call in docker.calls if call.startswith("image rm")} == {f"image rm {name}" for name in names}
    created = [call for call in docker.calls if call.startswith("create")]
    assert len(created) == len([call for call in docker.calls if call.startswith("rm ")]) == 2


@pytest.mark.parametrize(
    ("also", "difference"),
    [
        ('files["usr/lib/version"] = b"1" if kind == "before" else b"2"', "/usr/lib/version differs"),
        ('files.update({} if kind == "before" else {"new": b"1"})', "/new is new"),
        ('files.update({"old": b"1"} if kind == "before" else {})', "/old is missing"),
    ],
)
def test_any_other_difference_disproves(
    docker: FakeDocker, app: Path, also: str, difference: str, capfd: pytest.CaptureFixture[str]
) -> None:
    docker.does(also)
    assert prove(app) == 3
    shown = capfd.readouterr().out
    assert "\ndisproved: the images differ in 1 file that the lines do not name:\n" in shown
    assert f"\n  {difference}\n" in shown


def test_what_each_build_writes_anew_is_no_difference(
    docker: FakeDocker, app: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    docker.does('files["var/log/dpkg.log"] = files["usr/lib/x.pyc"] = kind.encode()')
    assert prove(app) == 0
    assert "but 2 that each build writes anew (logs, caches, bytecode)" in capfd.readouterr().out


def test_build_that_fails_without_what_the_lines_name_disproves(
    docker: FakeDocker, app: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    docker.does('kind == "before" or sys.exit("no such file")')
    assert prove(app, "--json") == 3
    values = json.loads(capfd.readouterr().out)
    assert (values["proof"]["holds"], values["proof"]["failure"]) == (
        False,
        "without what the lines name, the build fails: docker says why",
    )
    assert len([call for call in docker.calls if call.startswith("image rm")]) == 2


def test_image_that_cannot_be_built_as_it_is_is_no_proof(
    docker: FakeDocker, app: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    docker.does('sys.exit("no network")')
    assert prove(app) == 1
    assert capfd.readouterr().err.endswith(
        "bulkhead: the image cannot be built as it is: docker says why. Nothing was compared\n"
    )


def test_nothing_is_written_that_was_disproved(docker: FakeDocker, app: Path) -> None:
    docker.does('files["x"] = kind.encode()')
    assert prove(app, "--write", "--yes") == 3
    assert (app / ".dockerignore").read_text() == "*.tmp\n"
    docker.does("pass")
    assert prove(app, "--write", "--yes") == 0
    assert "\n.git\n" in (app / ".dockerignore").read_text()


@pytest.mark.usefixtures("docker")
def test_doubtful_lines_are_proved_only_with_all(app: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert prove(app, "--all") == 0
    assert "the image loses 5 files with 2.0 MiB" in capfd.readouterr().out


def test_without_docker_or_a_dockerfile_it_says_what_is_missing(
    app: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert prove(app) == 1
    assert capsys.readouterr().err == "bulkhead: --prove needs docker, which is not installed\n"
    (app / "Dockerfile").unlink()
    assert prove(app) == 1
    assert capsys.readouterr().err == "bulkhead: there is no Dockerfile to build\n"


def test_without_a_proposal_there_is_nothing_to_prove(docker: FakeDocker, app: Path) -> None:
    (app / ".dockerignore").write_text(".git\n**/__pycache__\n")
    assert prove(app) == 0
    assert not (docker.top / "calls").exists()


def test_file_that_was_copied_to_another_place_is_known_by_what_it_was_copied_from(tmp_path: Path) -> None:
    make(tmp_path, "web/public/a.log", "web/public/b")
    rules = [IgnoreRules(patterns.parse(text, "x")) for text in (b"", b"**/*.log")]
    before = {"srv/www/a.log": Inode(100, b"1"), "srv/www/b": Inode(100, b"2")}
    after = {"srv/www/b": Inode(100, b"2")}
    assert compare(str(tmp_path), before, after, *rules, ["web/public"]).holds
    assert not compare(str(tmp_path), before, after, *rules, ["web"]).holds
    assert not compare(str(tmp_path), before, {"srv/www/a.log": Inode(100, b"1")}, *rules, ["web/public"]).holds


def test_export_that_ends_too_early_is_no_image(
    docker: FakeDocker, app: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = docker.top / "bin/docker"
    program.rename(docker.top / "bin/whole")
    program.write_text('#!/bin/sh\n[ "$1" != export ] || { whole "$@" | head -c 700; exit 0; }\nexec whole "$@"\n')
    program.chmod(0o755)
    assert prove(app) == 1
    assert "\nbulkhead: what `docker export` wrote cannot be read: " in capfd.readouterr().err
    assert len([call for call in docker.calls if call.startswith("rm ")]) == 1
