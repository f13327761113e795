"""Runs of lab tests can be stopped and continued. The tests that they run here need no machine."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from .prepared import Prepared
from .processes import without_git

TOP = Path(__file__).parent.parent.parent

TESTS = {
    "test_one.py": """
        import os, pathlib, pytest, time

        @pytest.fixture(scope="module", autouse=True)
        def machine():
            yield
            pathlib.Path(os.environ["MARKS"], "torn-down").touch()

        def test_quick(): pass

        def test_slow():
            pathlib.Path(os.environ["MARKS"], "slow").touch()
            time.sleep(float(os.environ.get("SLOW", 0)))
        """,
    "test_two.py": """
        import os, pytest

        def test_that_fails_at_first(): assert "FAILS" not in os.environ

        @pytest.mark.sample(1)
        @pytest.mark.parametrize("case", ["a", "b"])
        def test_sampled(case): pass
        """,
}


class LabCheckout:
    """A git checkout with the lab and the tests above, all committed.

    Args:
        python: what the workers run in.
    """

    def __init__(self, top: Path, python: Path) -> None:
        self.top = top / "checkout"
        self.python = python
        # What the lab imports of the rest of the project, it finds in the project itself.
        path = os.pathsep.join(filter(None, (str(TOP), os.environ.get("PYTHONPATH"))))
        self.environment = {
            **without_git(),
            "PYTHONPATH": path,
            "BULKHEAD_CACHE": str(top / "cache"),
            "MARKS": str(top),
        }
        for name in ("lab", "tests/lab"):
            (self.top / name).mkdir(parents=True)
            for source in (TOP / name).glob("*.*"):
                if not source.name.startswith("test_") and source.is_file():
                    shutil.copy(source, self.top / name)
        (self.top / "tests/__init__.py").touch()
        for name in ("pyproject.toml", ".gitignore"):
            shutil.copy(TOP / name, self.top)
        for name, text in TESTS.items():
            (self.top / "tests/lab" / name).write_text(text.replace("\n        ", "\n"))
        for line in ("init", "add .", "commit -m x"):
            identity = ("-c", "user.name=x", "-c", "user.email=x@localhost")
            subprocess.run(
                ["git", *identity, *line.split()], cwd=self.top, env=without_git(), check=True, capture_output=True
            )

    def run(self, *arguments: str, workers: bool = False, **environment: str) -> tuple[int, set[str], str]:
        """Run tests, and return the exit code, the names of the tests that ran, and the output."""
        return self.result(self.start(*arguments, workers=workers, **environment))

    def start(self, *arguments: str, workers: bool = False, **environment: str) -> int:
        """Start such a run, and return the number of its process."""
        shared = ["--dist", "loadfile", "--tx", f"2*popen//python={self.python}"] if workers else []
        line = ["--verbose", "-p", "no:logging", "-p", "no:pytest11.testinfra", *shared, *arguments, "tests/lab"]
        child = os.fork()
        if not child:
            self._become(line, environment)
        return child

    def result(self, child: int) -> tuple[int, set[str], str]:
        """Wait for the end of a run, and return the same as `run`."""
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        text = (self.top.parent / "output").read_text()
        words = [word for line in text.splitlines() if "PASSED" in line or "FAILED" in line for word in line.split()]
        return code, {word.split("::")[1] for word in words if word.startswith("tests/lab/")}, text

    def _become(self, line: list[str], environment: dict[str, str]) -> NoReturn:
        """Become such a run, in a fork of the process that has imported pytest: that takes longer than these tests."""
        gc.freeze()
        code = 1
        try:
            os.chdir(self.top)
            os.environ.clear()
            os.environ.update(self.environment | environment)
            sys.path[0] = str(self.top)
            for name in [name for name in sys.modules if name.partition(".")[0] in ("lab", "tests")]:
                del sys.modules[name]
            for descriptor, file in ((0, os.devnull), (1, self.top.parent / "output")):
                os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC), descriptor)
            os.dup2(1, 2)
            sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)
            code = pytest.main(line)
            sys.stdout.flush()
        finally:
            os._exit(code)


EVERY = {"test_quick", "test_slow", "test_that_fails_at_first", "test_sampled[a]", "test_sampled[b]"}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with Prepared(tmp_path_factory.mktemp("python"), "pytest", "xdist.remote", "xdist.plugin") as python:
        yield python.program


@pytest.fixture
def checkout(tmp_path: Path, python: Path) -> LabCheckout:
    return LabCheckout(tmp_path, python)


def test_full_run_leaves_out_what_has_passed_on_the_commit(checkout: LabCheckout) -> None:
    code, ran, output = checkout.run("--full", workers=True, FAILS="1")
    assert (code, ran) == (1, EVERY), output
    code, ran, output = checkout.run("--full", "-k", "not fails", workers=True)
    assert (code, ran) == (0, set()), output
    code, ran, output = checkout.run("--full")
    assert (code, ran) == (0, {"test_that_fails_at_first"}), output
    assert "but the 4 that have passed on it" in output
    assert checkout.run("--full", "-k", "no_such_test")[0] == pytest.ExitCode.NO_TESTS_COLLECTED
    assert checkout.run("--full", "--again", "-k", "quick or fails", FAILS="1")[1] == {
        "test_quick",
        "test_that_fails_at_first",
    }
    assert checkout.run("--full")[1] == {"test_that_fails_at_first"}, "a test that --again runs must pass again"


def results(top: Path) -> str:
    """Return what is kept of the tests that have run."""
    return "".join(path.read_text() for path in (top / "cache/tests").glob("*.jsonl"))


def test_full_run_that_is_killed_cleans_up_and_the_next_one_goes_on(checkout: LabCheckout) -> None:
    top = checkout.top.parent
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell
    child = checkout.start("--full", workers=True, SLOW="50")
    signal.signal(signal.SIGINT, before)
    try:
        deadline = time.monotonic() + 120
        while not ((top / "slow").exists() and "::test_quick" in results(top)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.kill(child, signal.SIGTERM)
    assert checkout.result(child)[0] == pytest.ExitCode.INTERRUPTED
    assert (top / "torn-down").exists(), "the fixtures were not torn down: a machine would be left behind"
    ran = checkout.run("--full")[1]
    assert "test_slow" in ran
    assert "test_quick" not in ran


def test_with_uncommitted_changes_no_result_is_kept_and_no_test_is_left_out(checkout: LabCheckout) -> None:
    checkout.run("--full", "-k", "quick")
    (checkout.top / "further.py").touch()
    code, ran, output = checkout.run("--full")
    assert (code, ran) == (0, EVERY)
    assert "changes that are not committed, so no result is kept" in output
    assert "5 results are not kept" in output
    (checkout.top / "further.py").unlink()
    assert checkout.run("--full")[1] == EVERY - {"test_quick"}


def test_sample_ends_at_its_time_and_the_other_tests_still_run(checkout: LabCheckout) -> None:
    code, ran, output = checkout.run("--until", "1")
    assert (code, ran) == (0, {"test_quick", "test_slow", "test_that_fails_at_first"})
    assert "the time for the sample is over" in output
