"""`bulkhead context`, as it is called."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bulkhead import command_line
from bulkhead.context import commands, page

from .contexts import M, make, report_of

TOP = Path(__file__).parents[4]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Return a context with junk in it."""
    make(tmp_path, "src/main.py", "src/__pycache__/main.pyc", size=1000)
    make(tmp_path, ".git/objects/pack", "models/big.safetensors", size=3 * M)
    (tmp_path / "Dockerfile").write_text("FROM a AS base\nCOPY src /src\nFROM base\nCOPY . .\n")
    return tmp_path


def call(*words: object) -> int:
    return command_line.main(["context", *map(str, words)])


def test_page_shows_what_is_sent_and_what_need_not_be(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (app / ".dockerignore").write_text("*.tmp\n**/*.md\n")
    make(app, "README.md", size=500)
    assert call(app) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{app}\n\nWhat is sent to Docker\n")
    for line in (
        "  in the directory     6.0 MiB       7 files",
        "  taken out          500 bytes        1 file  by .dockerignore",
        "  sent                 6.0 MiB       6 files",
        "  line 1      *.tmp: matches nothing",
        "  line 2      500 bytes        1 file  **/*.md",
        "Proposed for .dockerignore: 3.0 MiB less (-50 %)",
        "  .git              3.0 MiB        1 file  version control",
        "  **/__pycache__ 1000 bytes        1 file  Python bytecode",
        "Only if the image does not need it: 3.0 MiB less (-50 %)",
        "    the program may load it from the image. Better mount a volume at run time",
    ):
        assert f"\n{line}\n" in shown, line
    assert [path.name for path in app.iterdir() if path.name.startswith(".d")] == [".dockerignore"]
    assert (app / ".dockerignore").read_text() == "*.tmp\n**/*.md\n", "without --write nothing is written"


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_page_fits_the_terminal(app: Path, width: int) -> None:
    make(app, "a-directory-with-a-long-name/and/another-one/file.suffix", size=M)
    text = page.render(report_of(app, ignore="nothing\n"), colour=False, width=width, takes_all=True)
    tables = text.partition("\nLargest directories")[2].partition("\n.dockerignore")[0]
    assert max(map(len, tables.splitlines())) <= width


def test_target_decides_what_is_sent(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(app, "--target", "base") == 0
    shown = capsys.readouterr().out
    assert "  not asked for        6.0 MiB       3 files  no instruction copies it\n" in shown
    assert "  sent                 1.9 KiB       2 files\n" in shown


def test_directory_without_a_dockerfile_counts_as_if_one_copied_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, "a", ".git/HEAD")
    assert call(tmp_path) == 0
    shown = capsys.readouterr().out
    assert "No Dockerfile here: the figures are for one that copies everything." in shown
    assert "\n  .git  " in shown


def test_dockerfile_that_copies_nothing_sends_nothing(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (app / "Dockerfile").write_text("FROM a\nRUN x\n")
    assert call(app) == 0
    shown = capsys.readouterr().out
    assert "The Dockerfile copies nothing of this directory." in shown
    assert "Nothing to propose" in shown


def test_dockerfile_may_come_from_standard_input(
    app: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"FROM a\nCOPY src /x\n")))
    assert call("-f", "-", app, "--json") == 0
    assert json.loads(capsys.readouterr().out)["sent"]["files"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{app}/nowhere"], "bulkhead: {app}/nowhere is not a directory\n"),
        (["{app}", "-f", "{app}/my.Dockerfile"], "bulkhead: {app}/my.Dockerfile cannot be read\n"),
        (["{app}", "--target", "dev"], "bulkhead: Dockerfile has no stage dev. It has base\n"),
        (["{app}", "-f", "{app}/broken"], "bulkhead: broken:2: there is no instruction CPOY. Did you mean COPY?\n"),
        (
            ["{app}/bad"],
            "bulkhead: .dockerignore:1: it is no valid pattern: Docker refuses the build. Write \\[ for a bracket\n",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    app: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (app / "broken").write_text("FROM a\nCPOY a b\n")
    make(app, "bad/")
    (app / "bad/.dockerignore").write_text("[b-a]\n")
    assert call(*(word.format(app=app) for word in words)) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", message.format(app=app))


def test_directory_that_docker_could_not_read_is_named_with_what_to_do(
    app: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = os.scandir

    def refused(path: str) -> object:
        if path.endswith("src/"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert call(app) == 1
    assert capsys.readouterr().err == (
        f"bulkhead: {app}/src/ cannot be read, so Docker could not send it. Take it out with a line in .dockerignore, or make "
        "it readable\n"
    )


def test_names_do_nothing_to_the_terminal(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(app, "evil\033[2J/file", size=9 * M)
    (app / ".dockerignore").write_text("no\033thing\n")
    assert call(app) == 0
    shown = capsys.readouterr().out
    assert "\033" not in shown
    assert "evil\\x1b[2J/" in shown
    assert "no\\x1bthing: matches nothing" in shown


def test_line_that_docker_refuses_does_nothing_to_the_terminal_either(
    app: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (app / ".dockerignore").write_text("no\033[2Jthing\n")
    assert call(app) == 1
    assert "`no\\x1b[2Jthing` is no valid pattern" in capsys.readouterr().err


def test_json_has_everything(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (app / ".dockerignore").write_text("*.tmp\n")
    assert call(app, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["sent"] == {"files": 6, "bytes": 6 * M + 2000 + 6 + len((app / "Dockerfile").read_text())}
    assert values["idle_lines"] == [{"line": 1, "text": "*.tmp", "why": "matches nothing"}]
    assert values["directories"][0] == {"name": ".git/objects/", "files": 1, "bytes": 3 * M}
    proposal = values["proposal"]
    assert [(line["text"], line["chosen"]) for line in proposal["lines"]] == [
        (".git", True),
        ("models/*.safetensors", False),
        ("**/__pycache__", True),
    ]
    assert proposal["saved"] == 3 * M + 1000
    assert proposal["text"].startswith("*.tmp\n\n# Proposed by")
    assert values["proof"] is None


# -- writing


def test_new_file_is_written(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(app, "--write") == 0
    assert capsys.readouterr().out.endswith(f"{app}/.dockerignore is written\n")
    assert (app / ".dockerignore").read_text().splitlines()[1:3] == [".git", "**/__pycache__"]
    assert "# models/*.safetensors" in (app / ".dockerignore").read_text()
    before = (app / ".dockerignore").read_text()
    assert call(app, "--write", "--yes") == 0
    assert capsys.readouterr().out.endswith("nothing is written: there is no line to add\n")
    assert (app / ".dockerignore").read_text() == before


@pytest.mark.parametrize(("answer", "code", "is_written"), [("y\n", 0, True), ("n\n", 1, False), ("", 1, False)])
def test_file_is_changed_only_with_consent(
    app: Path,
    answer: str,
    code: int,
    is_written: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (app / ".dockerignore").write_text("mine\n")
    (app / ".dockerignore").chmod(0o640)
    stdin = io.StringIO(answer)
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", stdin)
    assert call(app, "--write") == code
    shown = capsys.readouterr().out
    assert f"6 lines are added at the end of {app}/.dockerignore. Go on? [y/N]" in shown
    assert ("nothing was written" in shown) is not is_written
    content = (app / ".dockerignore").read_text()
    assert content.startswith("mine\n")
    assert (content != "mine\n") is is_written
    assert (app / ".dockerignore").stat().st_mode & 0o777 == 0o640


def test_without_a_terminal_nothing_is_changed_unasked(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (app / ".dockerignore").write_text("mine\n")
    assert call(app, "--write") == 1
    assert capsys.readouterr().err == "bulkhead: stdin is not a terminal; pass --yes\n"
    assert (app / ".dockerignore").read_text() == "mine\n"


def test_file_that_changes_meanwhile_is_left_alone(
    app: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (app / ".dockerignore").write_text("mine\n")
    monkeypatch.setattr(commands, "consents", lambda *_: (app / ".dockerignore").write_text("theirs\n"))
    assert call(app, "--write") == 1
    assert "has changed meanwhile; nothing was written. Run this again" in capsys.readouterr().err
    assert (app / ".dockerignore").read_text() == "theirs\n"


def test_file_of_the_dockerfile_and_where_a_link_leads_are_written(app: Path) -> None:
    make(app, "elsewhere/")
    (app / "elsewhere/shared").write_text("mine\n")
    (app / "Dockerfile.dockerignore").symlink_to("elsewhere/shared")
    assert call(app, "--write", "--yes") == 0
    assert (app / "Dockerfile.dockerignore").is_symlink()
    assert (app / "elsewhere/shared").read_text().startswith("mine\n\n# Proposed")
    assert not (app / ".dockerignore").exists()


def test_all_writes_also_what_the_image_may_need(app: Path) -> None:
    assert call(app, "--write", "--all") == 0
    assert "\nmodels/*.safetensors\n" in (app / ".dockerignore").read_text()


# -- on any machine

_ELSEWHERE = """
import os, signal, sys
for module, names in ((os, "memfd_create pidfd_open sched_getaffinity splice"), (signal, "sigtimedwait sigwaitinfo")):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource", "pwd", "grp", "termios", "bulkhead.procfs") or name.startswith(
            ("bulkhead.storage", "bulkhead.docker.", "bulkhead.guard", "bulkhead.watch", "bulkhead.prune", "bulkhead.move")
        ):
            raise ImportError(f"{name} is not on this machine")
sys.meta_path.insert(0, Hidden())
sys.path.insert(0, sys.argv[1])
from bulkhead.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def test_it_runs_on_a_machine_that_has_nothing_of_linux(app: Path) -> None:
    command = [sys.executable, "-IS", "-c", _ELSEWHERE, str(TOP)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    for words in (["context", str(app)], ["context", str(app), "--write"], ["context", "--help"]):
        done = subprocess.run([*command, *words], capture_output=True, text=True, env=environment)
        assert (done.returncode, done.stderr) == (0, ""), words
    assert (app / ".dockerignore").exists()
    done = subprocess.run([*command, "status"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "docker-bulkhead is not deployed to this host" in done.stderr


def test_it_needs_no_configuration_and_no_root(
    app: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bulkhead.config.PATH", str(app / "nowhere"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert call(app) == 0
    assert capsys.readouterr().err == ""
