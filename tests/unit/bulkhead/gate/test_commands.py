"""`bulkhead gate`, as it is called."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bulkhead import command_line
from bulkhead.bill import store

from ..bill.bills import G, bill

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(autouse=True)
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def gate(*words: str) -> int:
    return command_line.main(["gate", *words])


def test_table_shows_measured_against_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    store.keep(bill())
    assert (
        gate("tts", "--peak", "32G", "--image", "12G", "--layers", "9", "--compressed", "5G", "--increase", "10%") == 1
    )
    assert capsys.readouterr().out.splitlines() == [
        "Bill 1: tts:1",
        "                 MEASURED      ALLOWED",
        "  peak           24.0 GiB     32.0 GiB  [###############.....]  ok",
        "  image          16.0 GiB     12.0 GiB  [####################]  exceeded",
        "  compressed      unknown      5.0 GiB  [....................]  unknown",
        "    this engine keeps the layers of images uncompressed",
        "  increase              -            -  [....................]  ok",
        "    no earlier build of this image has passed",
        "  layers                9            9  [####################]  ok",
        "  1 of 3 steps came from the cache: the peak of a build from nothing is higher.",
        "over a limit",
    ]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--image", "16G"], 0),
        (["--image", "15G"], 1),
        (["--compressed", "5G"], 3),
        (["--compressed", "5G", "--image", "15G"], 1),
        (["--compressed", "5G", "--image", "16G"], 3),
    ],
)
def test_exit_code_says_whether_the_limits_were_kept(words: list[str], code: int) -> None:
    store.keep(bill())
    assert gate(*words) == code
    assert store.find("1").has_passed is (code == 0)


def test_verdict_stands_where_it_cannot_be_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store.keep(bill())

    def read_only(*_: object, **__: object) -> None:
        raise OSError("Read-only file system")

    monkeypatch.setattr(store, "mark", read_only)
    assert gate("--image", "16G") == 0
    assert capsys.readouterr().err == (
        "bulkhead: the verdict could not be kept for the next build: Read-only file system\n"
    )


def test_limits_are_in_the_repository_and_options_come_first(home: Path) -> None:
    store.keep(bill())
    (home / ".bulkhead.ini").write_text("[gate]\nimage = 12G\nlayers = 20\n")
    assert gate() == 1
    assert gate("--image", "20G") == 0
    (home / "other.ini").write_text("[gate]\nlayers = 20\n")
    assert gate("--file", "other.ini") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image", "1G", "web"], "there is no bill of web, and no such file; `bulkhead bill --list` shows all bills"),
        ([], "there is no limit. Give one, such as --image 2G, or write the limits into .bulkhead.ini"),
        (["--file", "gone.ini"], "gone.ini cannot be read: No such file or directory"),
        (["--file", "bad.ini"], "bad.ini: [gate] has no limit images. Choose from "),
        (["--image", "1G", "--against", "bad.ini"], "bad.ini is not a bill of `bulkhead bill --json`: "),
        (
            ["--image", "1G", "2"],
            "Bill 2: tts:1: the build failed with exit code 1, so there is nothing to hold to limits",
        ),
        (["--image", "1G", "--junit", "gone/../../nowhere\0x"], ""),
    ],
)
def test_what_cannot_be_told_is_three_and_says_why(
    home: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store.keep(bill())
    store.keep(bill(code=1))
    (home / "bad.ini").write_text("[gate]\nimages = 12G\n")
    assert gate(*(words if "2" in words or "web" in words else [*words, "1"])) == 3
    printed = capsys.readouterr()
    assert printed.err.startswith(f"bulkhead: {message}")
    assert printed.out == ""


def test_no_bill_at_all_is_three_and_an_error_in_junit(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate("--image", "1G", "--junit", "gate.xml") == 3
    assert capsys.readouterr().err == "bulkhead: there is no bill yet: `bulkhead build --bill` makes one\n"
    suites = ElementTree.parse(home / "gate.xml").getroot()
    assert [suites.attrib[name] for name in ("tests", "failures", "errors")] == ["1", "0", "1"]
    error = suites.find("testsuite/testcase/error")
    assert error is not None
    assert error.attrib["message"] == "there is no bill yet: `bulkhead build --bill` makes one"


def test_limit_that_is_none_is_a_wrong_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        gate("--image", "big")
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("bulkhead gate: image must be a size such as 500M or 12G, not 'big'")


def test_increase_is_counted_from_the_last_build_that_passed(capsys: pytest.CaptureFixture[str]) -> None:
    store.keep(bill(size=10 * G))
    assert gate("--image", "12G", "--increase", "10%") == 0
    store.keep(bill(size=20 * G))
    assert gate("--image", "12G", "--increase", "10%") == 1
    store.keep(bill(size=11 * G))
    capsys.readouterr()
    assert gate("--increase", "10%", "--json") == 0, "the second one has not passed"
    (row,) = json.loads(capsys.readouterr().out)["limits"]
    assert (row["measured"], row["allowed"], row["note"]) == (G, G, "against 10.0 GiB of bill 1")


def test_bill_in_a_file_is_held_against_another_one(home: Path) -> None:
    (home / "old.json").write_text(json.dumps(bill(9, size=10 * G).as_json()))
    (home / "new.json").write_text(json.dumps(bill(9, size=12 * G).as_json()))
    assert gate("new.json", "--against", "old.json", "--increase", "1G") == 1
    assert gate("new.json", "--against", "old.json", "--increase", "2G") == 0
    store.keep(bill(size=10 * G))
    (home / "first.json").write_text(json.dumps(bill(1, size=12 * G).as_json()))
    assert gate("first.json", "--image", "20G") == 0
    assert store.find("1").has_passed is None, "it is another bill of that number"


def test_junit_has_a_test_for_each_limit(home: Path) -> None:
    store.keep(bill(name="tts<1>"))
    assert gate("--peak", "32G", "--image", "12G", "--compressed", "5G", "--junit", "gate.xml") == 1
    suites = ElementTree.parse(home / "gate.xml").getroot()
    (suite,) = suites
    assert (suite.tag, suite.attrib["name"]) == ("testsuite", "bulkhead gate tts<1>")
    for each in (suites, suite):
        assert [each.attrib[name] for name in ("tests", "failures", "errors")] == ["3", "1", "1"]
    assert {case.attrib["name"]: [part.tag for part in case] for case in suite} == {
        "peak": [],
        "image": ["failure"],
        "compressed": ["error"],
    }
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.attrib["message"] == "image: measured 16.0 GiB, allowed 12.0 GiB"
