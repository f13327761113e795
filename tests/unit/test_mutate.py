"""The faults that scripts/mutate puts into shell scripts, and the list of what it works on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.mutate import LIST, Draw, Fault, Subject, _fault_between, shell_faults, unnoticed

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


def test_fault_that_no_test_notices_is_found_and_the_file_is_whole_again(tmp_path: Path) -> None:
    script = "set -eu\nexit 1\n"
    (tmp_path / "a.sh").write_text(script)
    (tmp_path / "test_a.py").write_text(
        "from pathlib import Path\n\ndef test_a():\n    assert 'exit 1' in Path('a.sh').read_text()\n"
    )
    found = [*unnoticed(Subject("a.sh", ["test_a.py"]), tmp_path)]
    assert found == [Fault("set -eu", ""), None, None]
    assert (tmp_path / "a.sh").read_text() == script


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


def test_every_script_of_the_deploy_is_on_the_list() -> None:
    known = LIST.read_text()
    scripts = [path.relative_to(TOP) for path in (*TOP.glob("templates/*.sh.j2"), *TOP.glob("files/*.sh"))]
    assert [str(path) for path in scripts if f'"{path}"' not in known] == []
