"""`bulkhead review`, as it is called."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead import command_line
from bulkhead.dockerfile import syntax
from bulkhead.review import commands, page
from bulkhead.review.rules import RULES

from ..context.contexts import make, options
from .test_rules import DOCKERFILES, reviewed

TOP = Path(__file__).parents[4]


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a context with something of each level to find, and stand in it."""
    (tmp_path / "Dockerfile").write_text(
        "FROM debian:12-slim\nRUN apt-get update\nENV API_TOKEN=abc\n"
        "# bulkhead: allow=package-cache it is small\nRUN pip install \\\n  flask\nCMD x\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return tmp_path


def call(*words: object) -> int:
    return command_line.main(["review", *map(str, words)])


@pytest.mark.usefixtures("app")
def test_page_has_each_finding_with_its_line_its_size_and_what_to_write(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert call() == 1
    assert capsys.readouterr().out == (
        "Dockerfile\n"
        "\n"
        "  3 findings: 1 error, 1 warning, 1 info. Together 20.0 MiB, as far as sizes are known.\n"
        "\n"
        "info     line 1     base-without-digest\n"
        "  The tag of debian:12-slim can move to another image: the next build may get a different base\n"
        "  Instead:\n"
        "      # docker buildx imagetools inspect debian:12-slim\n"
        "      FROM debian:12-slim@sha256:DIGEST\n"
        "\n"
        "warning  line 2     package-cache  20.0 MiB (estimated)\n"
        "  apt's package lists stay in this layer, even if a later RUN removes them\n"
        "  Instead:\n"
        "      RUN apt-get update \\\n"
        "          && rm -rf /var/lib/apt/lists/*\n"
        "\n"
        "error    line 3     secret-in-variable\n"
        "  API_TOKEN: `docker history` and `docker inspect` show the value of ENV to everybody who has the\n"
        "  image\n"
        "  Instead:\n"
        "      # docker run --env API_TOKEN …, or --mount=type=secret in the RUN that needs it\n"
        "\n"
        "Allowed by a waiver\n"
        "  line 5      package-cache: it is small\n"
    )


def test_nothing_found_is_said(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (app / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    assert call() == 0
    assert capsys.readouterr().out == "Dockerfile\n\n  Nothing to report.\n"


@pytest.mark.parametrize(
    ("line", "fail_on", "code"),
    [
        ("ENV API_TOKEN=abc", "error", 1),
        ("ENV API_TOKEN=abc", "never", 0),
        ("RUN apt-get update", "error", 0),
        ("RUN apt-get update", "warning", 1),
        ("RUN true", "warning", 0),
        ("RUN true", "info", 1),
    ],
)
def test_exit_code_is_that_of_the_level(
    app: Path, line: str, fail_on: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (app / "Dockerfile").write_text(f"FROM debian:12-slim\n{line}\nCMD x\n")
    assert call("--fail-on", fail_on) == code
    assert "base-without-digest" in capsys.readouterr().out, "the level decides about the exit code alone"


def test_waiver_allows_what_it_names_and_nothing_else(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (app / "Dockerfile").write_text("FROM scratch\n# bulkhead: allow=secret-in-variable for tests\nENV API_TOKEN=abc\n")
    assert call() == 0
    capsys.readouterr()
    (app / "Dockerfile").write_text(
        "FROM scratch\n# bulkhead: allow=secret-in-variable for tests\nRUN true\nENV API_TOKEN=abc\n"
    )
    assert call() == 1


def test_comment_within_a_heredoc_is_no_waiver(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (app / "Dockerfile").write_text(
        "FROM scratch\nRUN <<EOF\ntrue\n# bulkhead: allow=secret-in-variable no\nEOF\nENV API_TOKEN=abc\n"
    )
    assert call() == 1
    assert "waiver" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "bulkhead: nowhere is not a directory\n"),
        (["-f", "my.Dockerfile"], "bulkhead: my.Dockerfile cannot be read\n"),
        (["empty"], "bulkhead: there is no empty/Dockerfile. Name the Dockerfile with --file\n"),
        (["-f", "broken"], "bulkhead: broken:2: there is no instruction CPOY. Did you mean COPY?\n"),
        (["--target", "dev"], "bulkhead: Dockerfile has no stage dev. None of its stages has a name\n"),
    ],
)
def test_what_cannot_be_read_is_another_exit_code(
    app: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (app / "broken").write_text("FROM a\nCPOY a b\n")
    make(app, "empty/")
    assert call(*words) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", message)


@pytest.mark.usefixtures("app")
def test_wrong_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--fail-on", "all"], ["--json", "--sarif", "-"]):
        with pytest.raises(SystemExit) as end:
            call(*words)
        assert end.value.code == 2
    assert "a FILE for --sarif is missing" in capsys.readouterr().err


@pytest.mark.usefixtures("app")
def test_dockerfile_may_come_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"FROM scratch\nENV API_TOKEN=abc\n")))
    assert call("-f", "-", "--json") == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [(each["rule"], each["line"]) for each in found] == [("secret-in-variable", 2)]


@pytest.mark.usefixtures("app")
def test_json_has_what_the_page_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--json") == 1
    printed = json.loads(capsys.readouterr().out)
    assert (printed["file"], printed["hadolint"]) == ("Dockerfile", False)
    assert printed["counts"] == {"error": 1, "warning": 1, "info": 1}
    assert [(each["rule"], each["line"], each["end"], each["allowed"]) for each in printed["findings"]] == [
        ("base-without-digest", 1, 1, False),
        ("package-cache", 2, 2, False),
        ("secret-in-variable", 3, 3, False),
        ("package-cache", 5, 6, True),
    ]
    assert printed["findings"][1]["bytes"] == 20 * 2**20


def test_text_of_a_dockerfile_does_nothing_to_the_terminal(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (app / "Dockerfile").write_text(
        "FROM debian:12\033[2J\nRUN apt-get update && echo \033]0;x\007\n# bulkhead: allow=a\033[1m \033[2J\nCMD x\n"
    )
    assert call() == 1
    shown = capsys.readouterr().out
    assert "\033" not in shown
    assert "\007" not in shown
    assert "\\x1b]0;x\\x07" in shown


@pytest.mark.parametrize("width", [40, 80])
def test_messages_fit_the_terminal(width: int, tmp_path: Path) -> None:
    result = reviewed(tmp_path, (DOCKERFILES[0].parent / "incident-before.Dockerfile").read_text())
    lines = page.render(result, colour=False, width=width).splitlines()
    messages = [line for line in lines if line.startswith("  ") and not line.startswith("      ")]
    assert messages
    assert max(map(len, messages)) <= width


# -- SARIF


def required(log: dict[str, Any]) -> None:
    """Check what the schema of SARIF 2.1.0 requires, and what code hosts need besides."""
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "bulkhead"
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(ids) == len(set(ids))
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]
        assert rule["defaultConfiguration"]["level"] in ("error", "warning", "note")
    for result in run["results"]:
        assert result["message"]["text"]
        assert ids[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert not place["artifactLocation"]["uri"].startswith(("/", "..", "file:"))
        assert 1 <= place["region"]["startLine"] <= place["region"]["endLine"]
        assert all(isinstance(value, str) for value in result["partialFingerprints"].values())
        for suppression in result.get("suppressions", ()):
            assert suppression["kind"] == "inSource"


def test_sarif_is_for_code_hosts(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(app, "sub dir/")
    (app / "Dockerfile").rename(app / "sub dir/Dockerfile")
    assert call("--sarif", "-", "sub dir") == 1
    log = json.loads(capsys.readouterr().out)
    required(log)
    results = log["runs"][0]["results"]
    assert [(each["ruleId"], each["level"]) for each in results] == [
        ("base-without-digest", "note"),
        ("package-cache", "warning"),
        ("secret-in-variable", "error"),
        ("package-cache", "warning"),
    ]
    place = results[3]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "sub%20dir/Dockerfile", "uriBaseId": "%SRCROOT%"}
    assert place["region"] == {"startLine": 5, "endLine": 6}
    assert results[3]["suppressions"] == [{"kind": "inSource", "justification": "it is small"}]
    assert "suppressions" not in results[1]
    assert "Saves 20.0 MiB (estimated)." in results[1]["message"]["text"]
    assert "rm -rf /var/lib/apt/lists/*" in results[1]["message"]["text"]


def test_sarif_can_go_into_a_file_beside_the_page(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--sarif", "out.sarif") == 1
    assert capsys.readouterr().out.startswith("Dockerfile\n\n  3 findings")
    required(json.loads((app / "out.sarif").read_text()))


def test_finding_is_the_same_one_on_another_line(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def prints() -> list[str]:
        call("--sarif", "-")
        results = json.loads(capsys.readouterr().out)["runs"][0]["results"]
        return [each["partialFingerprints"]["instruction/v1"] for each in results]

    before = prints()
    (app / "Dockerfile").write_text("# a comment\n\n" + (app / "Dockerfile").read_text())
    assert prints() == before
    assert len(set(before)) == 4


# -- hadolint


def with_hadolint(app: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    """Have a hadolint that prints something. It writes down what it is given."""
    (app / "bin").mkdir()
    (app / "bin/hadolint").write_text(
        f'#!/bin/sh\necho "$@" > {app}/called\ncat >> {app}/called\ncat <<"END"\n{output}\nEND\n'
    )
    (app / "bin/hadolint").chmod(0o755)
    monkeypatch.setenv("PATH", f"{app}/bin:/usr/bin:/bin")


def of_hadolint(code: str, line: int, level: str) -> dict[str, object]:
    return {"code": code, "column": 1, "file": "-", "level": level, "line": line, "message": f"{code} says so"}


def test_findings_of_hadolint_are_merged_without_those_that_are_ours(
    app: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (app / "Dockerfile").write_text(
        "FROM debian:12\nRUN apt-get update\n# bulkhead: allow=DL3013 pinned elsewhere\nRUN pip install \\\n  flask\nCMD x\n"
    )
    output = [
        of_hadolint("DL3009", 2, "info"),
        of_hadolint("DL3008", 2, "error"),
        of_hadolint("DL3013", 4, "warning"),
        of_hadolint("DL3042", 4, "warning"),
        of_hadolint("DL3025", 6, "style"),
        of_hadolint("DL3009", 6, "info"),
    ]
    with_hadolint(app, monkeypatch, json.dumps(output))
    assert call("--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["hadolint"] is True
    assert [(each["rule"], each["line"], each["level"]) for each in found["findings"]] == [
        ("base-without-digest", 1, "info"),
        ("DL3008", 2, "error"),
        ("package-cache", 2, "warning"),
        ("DL3013", 4, "warning"),
        ("package-cache", 4, "warning"),
        ("DL3009", 6, "info"),
        ("DL3025", 6, "info"),
    ]
    assert [each["rule"] for each in found["findings"] if each["allowed"]] == ["DL3013"]
    assert (app / "called").read_text() == "--no-fail --format json -\n" + (app / "Dockerfile").read_text()
    assert call("--sarif", "-") == 1
    required(json.loads(capsys.readouterr().out))


def test_waiver_for_hadolint_counts_where_hadolint_has_run(
    app: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (app / "Dockerfile").write_text("FROM scratch\n# bulkhead: allow=DL3025 it is right\nCMD x\n")
    assert call() == 0
    with_hadolint(app, monkeypatch, "[]")
    assert call() == 1
    assert "allow=DL3025 allows nothing" in capsys.readouterr().out


def test_hadolint_that_fails_is_named_and_done_without(
    app: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_hadolint(app, monkeypatch, "hadolint: bad config\033[1m")
    assert call() == 1
    printed = capsys.readouterr()
    assert printed.err == (
        "bulkhead: without hadolint: hadolint gives no findings. It says: hadolint: bad config\\x1b[1m\n"
    )
    assert "3 findings" in printed.out


def test_hadolint_can_be_left_out(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_hadolint(app, monkeypatch, "[]")
    assert call("--no-hadolint") == 1
    assert not (app / "called").exists()


# -- what is measured, and what is to be written


def test_what_was_measured_takes_the_place_of_an_estimate(app: Path) -> None:
    content = b"FROM debian:12\nRUN hf download org/model-7b\nRUN apt-get update\nCMD x\n"
    sizes = {2: 3 * 2**30, 3: 10 * 2**20}
    given = options(app, hadolint=False)
    (app / "Dockerfile").write_bytes(content)
    result = commands.review(given, content, "Dockerfile", lambda instruction: sizes.get(instruction.line))
    assert [(each.line, each.bytes, each.is_measured) for each in result.findings] == [
        (1, None, False),
        (2, 3 * 2**30, True),  # all that the RUN wrote
        (3, 10 * 2**20, False),  # at most that
    ]


REPLACEMENTS = ("package-cache", "devel-base", "full-base", "base-without-digest", "base-latest")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name.removesuffix(".Dockerfile"))
def test_what_is_to_be_written_instead_can_be_written(path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    digest = "sha256:" + 64 * "0"
    for finding in reviewed(tmp_path, text).open:
        if finding.rule == "unused-waiver":
            continue
        assert finding.instead, finding.rule
        if "# .dockerignore" not in finding.instead:
            written = "# escape=`\n" if text.startswith("# escape=`") else ""
            lines = finding.instead.replace("DIGEST", digest.partition(":")[2])
            syntax.parse(f"{written}FROM scratch\n{lines}\n".encode())
        if finding.rule in REPLACEMENTS:
            lines = text.splitlines()
            lines[finding.line - 1 : finding.end] = finding.instead.replace("DIGEST", digest[7:]).splitlines()
            again = reviewed(tmp_path, "\n".join(lines) + "\n")
            at = range(finding.line, finding.line + len(finding.instead.splitlines()))
            same = [each for each in again.open if each.rule == finding.rule and each.line in at]
            assert not same or (
                finding.rule == "package-cache" and finding.message not in [each.message for each in same]
            )


def test_every_rule_finds_something_and_is_explained() -> None:
    page_of_rules = (TOP / "docs/review.md").read_text()
    expected = " ".join(path.read_text() for path in DOCKERFILES)
    for rule in RULES:
        assert f"\n| `{rule.name}` |" in page_of_rules, rule.name
        assert rule.name in expected, f"no Dockerfile of the tests has {rule.name}"


def test_hook_reviews_each_file_in_its_directory(app: Path) -> None:
    make(app, "a/", "b/")
    (app / "a/Dockerfile").write_text("FROM scratch\nENV API_TOKEN=abc\n")
    (app / "b/Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    for module in ("csv", "bulkhead"):
        (app / f"{module}.py").write_text("raise SystemExit('code of the repository runs')\n")
    hooks = (TOP / ".pre-commit-hooks.yaml").read_text()
    entries = [line.partition("entry: ")[2] for line in hooks.splitlines() if "entry: " in line]
    assert entries == ["scripts/hook review", "scripts/hook context"]
    (app / "bin").mkdir()
    (app / "bin/python3").symlink_to(sys.executable)
    environment = {**os.environ, "PATH": f"{app}/bin:/usr/bin:/bin"}

    def hook(entry: str, *words: str) -> subprocess.CompletedProcess[str]:
        program, command = entry.split()
        return subprocess.run(
            [TOP / program, command, *words], cwd=app, env=environment, capture_output=True, text=True, check=False
        )

    reviewed_files = hook(entries[0], "a/Dockerfile", "b/Dockerfile")
    assert (reviewed_files.returncode, reviewed_files.stderr) == (1, "")
    assert "a/Dockerfile\n\n  1 finding: 1 error" in reviewed_files.stdout
    assert "b/Dockerfile\n\n  Nothing to report." in reviewed_files.stdout
    assert hook(entries[0], "--fail-on=never", "a/Dockerfile").returncode == 0
    assert hook(entries[0], "a/Nowhere", "b/Dockerfile").returncode == 2
    shown = hook(entries[1], "--context=.", "a/Dockerfile")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(f"{app}\n\nWhat is sent to Docker")


def test_pipe_with_the_name_of_a_secret_is_not_waited_for(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (app / "Dockerfile").write_text("FROM scratch\nCOPY . .\nCMD x\n")
    os.mkfifo(app / ".env")
    pipe = os.open(app / ".env", os.O_RDWR | os.O_NONBLOCK)
    os.write(pipe, b"API_TOKEN=abc\n")
    call("--no-hadolint", "--json")
    assert "secret-copied" not in capsys.readouterr().out
    assert os.read(pipe, 100) == b"API_TOKEN=abc\n", "the pipe was read"
    os.close(pipe)


def test_secrets_in_addresses_are_in_no_report(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = "https://me:S3CRET@host/model.safetensors?sig=S3CRET"
    (app / "Dockerfile").write_text(f"FROM scratch\nADD {address} /m\nRUN curl -o /x.gguf '{address}'\nCMD x\n")
    assert call("--no-hadolint", "--sarif", "out.sarif") == 1
    reports = (app / "out.sarif").read_text() + capsys.readouterr().out
    assert "https://host/model.safetensors" in reports
    assert "S3CRET" not in reports
