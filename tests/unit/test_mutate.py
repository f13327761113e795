"""The faults that scripts/mutate makes, which tests it runs for them, and the list of what it works on."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import mutate
from tests.mutate import (
    LIST,
    Draw,
    FailAnyway,
    Fault,
    Record,
    Subject,
    _fault_between,
    faulty_functions,
    shell_faults,
    unnoticed,
)

TOP = Path(__file__).parents[2]

SCRIPT = """\
# a comment with sync "$x" && more
set -eu
if [ -e "$file" ] && ! is_up "$unit"; then
    cp "$file" {{ old | quote }}; sync "$old" && mv "$old" "$new"
fi
"""


def test_each_fault_in_a_script_is_made_once_and_leaves_a_script() -> None:
    faults = [fault for fault, _ in shell_faults(SCRIPT)]
    condition, step = (line.strip() for line in SCRIPT.splitlines()[2:4])
    assert faults == [
        Fault("set -eu", ""),
        Fault(condition, condition.replace("&&", "||")),
        Fault(condition, condition.replace("-e", "! -e")),
        Fault(condition, condition.replace("! ", "")),
        Fault(step, step.replace("&&", "||")),
        Fault(step, step.replace('sync "$old" ', "true")),
    ]


def test_script_has_the_fault_and_nothing_else() -> None:
    fault, script = next(shell_faults(SCRIPT))
    assert script == SCRIPT.replace(f"{fault.line}\n", "")


def test_fault_in_a_module_is_the_line_that_differs() -> None:
    module = "def f():\n    return a < b\n"
    assert _fault_between(module, module.replace("<", "<=")) == Fault("return a < b", "return a <= b")


def changed(text: str, *changes: tuple[str, str]) -> list[tuple[Fault, str]]:
    """Return a fault for each change of a text."""
    return [(Fault(old, new), text.replace(old, new)) for old, new in changes]


def test_fault_that_no_test_notices_is_found_and_the_file_is_whole_again(tmp_path: Path) -> None:
    script = "set -eu\nexit 1\n"
    (tmp_path / "a.sh").write_text(script)
    (tmp_path / "test_a.py").write_text(
        "from pathlib import Path\n\ndef test_a():\n    assert 'exit 1' in Path('a.sh').read_text()\n"
    )
    found = [*unnoticed(Subject("a.sh", ["test_a.py"]), tmp_path, [*shell_faults(script)])]
    assert found == [Fault("set -eu", ""), None, None]
    assert (tmp_path / "a.sh").read_text() == script


MODULE = """\
import time

LIMIT = 5
OTHER = 7

def low(value):
    return value < LIMIT

def high(value):
    return value > 9

def pause():
    while True:
        return 3
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory with a module and its tests, one of which runs it as a program of its own."""
    (tmp_path / "amodule.py").write_text(MODULE)
    (tmp_path / "test_a.py").write_text(
        "import subprocess, sys\n"
        "import amodule\n\n"
        "def test_low():\n    assert amodule.low(4) and not amodule.low(5)\n\n"
        "def test_program():\n"
        "    line = [sys.executable, '-B', '-c', 'import amodule, sys; sys.exit(amodule.high(10) - 1)']\n"
        "    assert subprocess.run(line).returncode == 0\n\n"
        "def test_pause():\n    assert amodule.pause()\n"
    )
    if not importlib.util.find_spec("coverage"):  # requirements-mutate.lock has it
        monkeypatch.setattr(mutate, "_tracer", lambda _: None)
    return tmp_path


def test_fault_is_noticed_in_a_function_at_import_and_in_another_process(checkout: Path) -> None:
    faults = changed(
        MODULE,
        ("value < LIMIT", "value <= LIMIT"),
        ("LIMIT = 5", "LIMIT = 6"),
        ("value > 9", "value < 9"),
        ("OTHER = 7", "OTHER = 8"),
        ("return 3", "return 4"),
        ("OTHER = 7", "OTHER = ="),
    )
    found = [*unnoticed(Subject("amodule.py", ["test_a.py"]), checkout, faults)]
    assert [fault and fault.line for fault in found] == [None, None, None, "OTHER = 7", "return 3", None]
    assert (checkout / "amodule.py").read_text() == MODULE


def test_fault_that_never_ends_is_noticed(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutate, "_SLACK", 1)
    faults = changed(MODULE, ("return 3", "time.sleep(1000)"))
    assert [*unnoticed(Subject("amodule.py", ["test_a.py"]), checkout, faults)] == [None]


def test_tests_that_fail_without_a_fault_are_an_error(checkout: Path) -> None:
    (checkout / "test_b.py").write_text("def test_b():\n    assert False\n")
    with pytest.raises(FailAnyway):
        [*unnoticed(Subject("amodule.py", ["test_a.py", "test_b.py"]), checkout, [])]


def test_tests_that_need_each_other_are_an_error(checkout: Path) -> None:
    (checkout / "test_b.py").write_text(
        "seen = []\n\ndef test_one():\n    seen.append(1)\n\ndef test_two():\n    assert seen\n"
    )
    with pytest.raises(FailAnyway):
        [*unnoticed(Subject("amodule.py", ["test_b.py"]), checkout, [])]


def test_tests_that_reach_the_fault_run_and_the_cheapest_first() -> None:
    record = Record({"a": 1, "b": 3, "c": 2, "d": 0.5}, {7: ["c", "b"]})
    tests: Any = [SimpleNamespace(nodeid=name) for name in "abcd"]
    assert [test.nodeid for test in record.select(tests, 7)] == ["c", "b"]
    assert [test.nodeid for test in record.select(tests, 8)] == ["d", "a", "c", "b"]
    assert [test.nodeid for test in record.select(tests)] == ["d", "a", "c", "b"]


def test_functions_get_the_fault_wherever_they_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "amodule.py"
    module: dict[str, Any] = {}
    exec(compile(MODULE, file, "exec", dont_inherit=True), module)
    kept = [module["low"], module["high"]]
    ((function, code),) = faulty_functions(kept, file, MODULE, MODULE.replace("value < LIMIT", "value <= LIMIT")) or []
    function.__code__ = code
    assert function is kept[0]
    assert kept[0](5)
    assert faulty_functions(kept, file, MODULE, MODULE.replace("LIMIT = 5", "LIMIT = 6")) is None


def test_modules_operators_are_changed_but_for_the_star_among_parameters() -> None:
    pytest.importorskip("cosmic_ray")
    module = "def f(a, *, b):\n    return a * b\n"
    faults = [fault for fault, _ in mutate.python_faults(module)]
    assert Fault("return a * b", "return a / b") in faults
    assert all(fault.line == "return a * b" for fault in faults)


def test_sample_is_some_of_the_faults_and_the_same_for_a_seed() -> None:
    faults = [(Fault(str(number), ""), "") for number in range(30)]
    drawn = Draw(5, "a").from_(faults)
    assert len(drawn) == 5
    assert set(drawn) < set(faults)
    assert Draw(5, "a").from_(faults) == drawn
    assert Draw(5, "b").from_(faults) != drawn
    assert sorted(Draw(40, "a").from_(faults)) == sorted(faults)


def test_list_names_files_and_tests_that_exist_and_reasons() -> None:
    known: dict[str, Any] = pytest.importorskip("tomllib").loads(LIST.read_text())
    paths = [path for group in known["group"] for path in group["paths"]]
    assert len(set(paths)) == len(paths)
    assert [path for path in paths if not (TOP / path).is_file()] == []
    assert [test for group in known["group"] for test in group["tests"] if not (TOP / test).exists()] == []
    for accepted in known.get("accepted", []):
        assert accepted["path"] in paths
        assert accepted["line"] in (TOP / accepted["path"]).read_text()
        assert accepted["reason"]


def test_examples_of_a_module_are_tests_of_it() -> None:
    assert mutate.examples("pyinfra_lvm/model.py") == [
        "tests/unit/test_examples.py::test_examples_hold[pyinfra_lvm.model]"
    ]
    assert mutate.examples("bulkhead/errors.py") == mutate.examples("files/apt.sh") == []


def test_every_script_of_the_deploy_is_on_the_list() -> None:
    known = LIST.read_text()
    patterns = ("templates/*.sh.j2", "files/*.sh", "tasks/**/*.sh", "pyinfra_lvm/*.sh")
    scripts = [path.relative_to(TOP) for pattern in patterns for path in TOP.glob(pattern)]
    assert len(scripts) > 15
    assert [str(path) for path in scripts if f'"{path}"' not in known] == []
