"""The command line: what it runs, and what it says of wrong arguments and of a host without the deploy."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bulkhead import __version__, command_line, config, parser
from bulkhead.config import Config

from .configs import config as example


def refused(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return the exit code and the message of wrong arguments."""
    with pytest.raises(SystemExit) as end:
        command_line.main(words.split())
    printed = capsys.readouterr()
    assert printed.out == ""
    assert isinstance(end.value.code, int)
    return end.value.code, printed.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("stats", "bulkhead: there is no command stats. Did you mean status? See `bulkhead --help`"),
        ("snapshot undo", "bulkhead snapshot: there is no action undo. Choose from create, list, rollback, drop."),
        ("--verbose", "bulkhead: it has no argument --verbose."),
        ("status all", "bulkhead status: it has no argument all. See `bulkhead status --help`"),
        ("build -t app .", "bulkhead build: it has no argument -t; arguments for docker build come after --."),
        ("reclaim", "bulkhead reclaim: --need is missing."),
        ("reclaim --need", "bulkhead reclaim: --need needs a value."),
        ("reclaim --need 80%", "bulkhead reclaim: --need must be a size such as 512M, 10G or 1.5T, not '80%'."),
        (
            "snapshot create --size x",
            "bulkhead snapshot create: --size must be a size such as 512M, 10G or 1.5T, not 'x'.",
        ),
        ("build --wait soon", "bulkhead build: --wait must be a duration such as 90s, 30m or 2h, not 'soon'."),
        ("build --wait 0m", "bulkhead build: --wait must be a duration such as 90s, 30m or 2h, not '0m'."),
        ("build --limit 20", "bulkhead build: --limit must be a size such as 512M, 10G or 1.5T, not '20'."),
        ("build --forget=", "bulkhead build: --forget must not be empty: without a name, all builds are forgotten."),
        ("build --list --forget", "bulkhead build: --forget and --list exclude each other."),
        ("alert", "bulkhead alert: either --test or --deliver is needed."),
        ("relocate --join --recover", "bulkhead relocate: --recover and --join exclude each other."),
        ("status --json=3", "bulkhead status: --json takes no value."),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(
    words: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, message = refused(words, capsys)
    assert code == 2
    assert message.startswith(sentence)
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "wait", "forget", "arguments"),
    [
        ("build -- .", 0, None, ["."]),
        ("build --wait -- .", 3600, None, ["."]),
        ("build --wait 90s -- .", 90, None, ["."]),
        ("build --wait 2h -- docker compose build", 7200, None, ["docker", "compose", "build"]),
        ("build --forget", 0, True, []),
        ("build --forget app", 0, "app", []),
        ("build --forget -- -t app .", 0, True, ["-t", "app", "."]),
    ],
)
def test_options_of_a_build_are_read(words: str, wait: float, forget: str | bool | None, arguments: list[str]) -> None:
    options = command_line._parser().parse_args(words.split())
    assert (options.wait, options.forget, options.arguments) == (wait, forget, arguments)


@pytest.mark.parametrize("threshold", ["0", "100", "80%", "-5", "eighty"])
def test_check_with_wrong_arguments_is_unknown_and_not_critical(
    threshold: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = f"bulkhead check: THRESHOLD must be a whole percentage from 1 to 99, not {threshold!r}. See"
    code, message = refused(f"check {threshold}", capsys)
    assert code == 3
    assert message.startswith(expected)


def test_error_that_is_not_known_stays_as_argparse_has_it() -> None:
    assert parser.sentence("something new") == "something new."


@pytest.mark.parametrize(("words", "name"), [([], "COMMAND"), (["snapshot"], "ACTION")])
def test_without_a_command_the_help_is_shown(words: list[str], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(words) == 2
    printed = capsys.readouterr()
    assert name in printed.err
    assert "--help" in printed.err
    assert printed.out == ""


def test_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command_line.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"bulkhead {__version__}\n"


@pytest.mark.parametrize("columns", [50, 72, 100])
@pytest.mark.parametrize(
    "words", [[], ["build"], ["context"], ["review"], ["snapshot", "rollback"], ["check"], ["relocate"]]
)
def test_help_is_as_wide_as_the_terminal(
    words: list[str], columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        command_line.main([*words, "--help"])
    widths = [len(line) for line in capsys.readouterr().out.splitlines()]
    assert columns - 25 < max(widths) <= columns


# -- without a configuration

EVERY_COMMAND = [
    *(
        "status",
        "status --json",
        "alert --test",
        "alert --deliver",
        "prune",
        "reclaim --need 1G",
        "reclaim --volumes",
        "prune --nightly",
        "build",
        "preflight",
    ),
    *("preflight --json", "snapshot create", "snapshot list --json", "snapshot rollback", "snapshot drop", "rescue"),
    *("guard", "relocate", "relocate --join", "rollback", "finalize"),
]


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of a configuration that does not exist."""
    path = tmp_path / "bulkhead.json"
    load = Config.load
    monkeypatch.setattr(config.Config, "load", lambda: load(str(path)))
    return path


@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("words", EVERY_COMMAND)
def test_host_without_the_deploy_is_called_so(
    nowhere: Path, words: str, user: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert command_line.main(words.split()) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"bulkhead: docker-bulkhead is not deployed to this host: there is no {nowhere}. "
        "Run deploy.py with this host in the inventory\n"
    )


def test_check_of_a_host_without_the_deploy_is_unknown(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["check", "--no-alert"]) == 3
    assert capsys.readouterr().out.startswith("DISK UNKNOWN - docker-bulkhead is not deployed to this host: ")
    assert command_line.main(["check", "--no-alert", "--json"]) == 3
    shown = json.loads(capsys.readouterr().out)
    assert (shown["level"], shown["status"], shown["filesystems"]) == (3, "UNKNOWN", [])
    assert [(each["key"], each["level"]) for each in shown["findings"]] == [("configuration", 3)]
    assert shown["findings"][0]["text"].startswith(
        f"docker-bulkhead is not deployed to this host: there is no {nowhere}. "
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not valid JSON ("),
        (b"{", "it is not valid JSON ("),
        (b"\xff", "it is not valid JSON ("),
        (b"[" * 100_000, "it is not valid JSON ("),
        (b"[]", "it is not from this version of docker-bulkhead ("),
        (b"{}", "it is not from this version of docker-bulkhead ("),
        (b'{"store_fstab": 7}', "it is not from this version of docker-bulkhead ("),
    ],
)
def test_configuration_that_cannot_be_read_says_why_and_what_to_do(
    nowhere: Path, content: bytes, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere.write_bytes(content)
    assert command_line.main(["status"]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"bulkhead: {nowhere} cannot be read: {reason}")
    assert message.endswith("). Run the deploy again: it writes this file\n")
    assert command_line.main(["check", "--json", "--no-alert"]) == 3
    assert json.loads(capsys.readouterr().out)["status"] == "UNKNOWN"


def test_directory_in_place_of_the_configuration_cannot_be_read(
    nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere.mkdir()
    assert command_line.main(["status"]) == 1
    assert f"{nowhere} cannot be read: Is a directory. Run the deploy again" in capsys.readouterr().err


def test_others_than_root_are_sent_to_sudo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Config, "load", lambda: example())
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert command_line.main(["snapshot", "list"]) == 1
    assert capsys.readouterr().err == "bulkhead: `bulkhead snapshot list` needs root: run it with sudo\n"
