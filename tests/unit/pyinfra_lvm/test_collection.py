"""Several facts in one command: each gets its own output, and the answers end when an operation changes the host."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api import FactBase, FactProcessError, StringCommand
from pyinfra.context import ctx_host

from pyinfra_lvm.collection import Answers, Question, collect, fact, operation


class Printed(FactBase[list[str]]):
    """What a script prints."""

    def command(self, script: str) -> str:
        return script

    def process(self, output: list[str]) -> list[str]:
        return output

    @staticmethod
    def default() -> list[str]:
        return ["the default"]


class Listed(FactBase[list[str]]):
    """Which names are there: only those that were asked for."""

    def command(self, names: list[str], of: str = "") -> str:
        self.names = names
        return f"printf '%s\\n' {' '.join(names)} {of}"

    def process(self, output: list[str]) -> list[str]:
        if output == ["unreadable"]:
            raise FactProcessError("this cannot be read")
        return [line for line in output if line in self.names]


@dataclass(eq=False)
class ShellHost:
    """This machine, as much of it as a fact sees."""

    state: Any = field(default_factory=lambda: SimpleNamespace(is_executing=True))
    asked: list[str] = field(default_factory=list)

    def get_fact(self, wanted: type[FactBase[Any]], **arguments: Any) -> Any:
        self.asked.append(wanted.__name__)
        asked = wanted()
        done = subprocess.run(["sh", "-c", asked.command(**arguments)], capture_output=True, text=True, check=False)
        if done.returncode:
            return asked.default()
        return asked.process(done.stdout.splitlines())


def printed(*scripts: str) -> list[list[str]]:
    with ctx_host.use(ShellHost()):
        assert collect([Question(Printed, {"script": script}) for script in scripts])
        return [fact(Printed, script=script) for script in scripts]


def test_each_fact_gets_its_own_output_to_the_line() -> None:
    scripts = ("echo a; echo b", "printf c", "printf 'd\\n\\n'", "cd /; x=1; exit 0", 'pwd; echo "[$x]"')
    here = subprocess.run(["pwd"], capture_output=True, text=True, check=True).stdout.strip()
    assert printed(*scripts) == [["a", "b"], ["c"], ["d", ""], ["the default"], [here, "[]"]]


def test_fact_that_fails_fails_all_as_it_does_alone() -> None:
    with ctx_host.use(ShellHost()):
        assert not collect([Question(Printed, {"script": one}) for one in ("echo a", "exit 3", "echo b")])


def test_what_a_login_prints_belongs_to_no_fact() -> None:
    answers = Answers()
    answers.command([Question(Printed, {"script": "true"})])
    (answer,) = answers.process(["Welcome!", answers.mark, "a", "", answers.mark])
    assert answer.output == ["a"]
    with pytest.raises(FactProcessError, match="the host has answered no question"):
        answers.process(["Welcome!"])


def test_no_answer_is_taken_from_output_that_ends_too_early() -> None:
    """Pyinfra stops reading at a byte that is no UTF-8, in a comment of a unit's file for instance."""
    answers, questions = Answers(), [Question(Printed, {"script": "true"})] * 3
    answers.command(questions)
    assert [answer.output for answer in answers.process([answers.mark, "a", "", answers.mark, "cut"])] == [["a"]]


def test_line_in_a_file_that_looks_like_a_mark_is_none() -> None:
    assert Answers().command([]) != Answers().command([])
    assert printed("echo '##FACT##'; echo '##FACT## 0'", "echo b") == [["##FACT##", "##FACT## 0"], ["b"]]


def test_command_that_fails_shows_nothing_of_what_came_before() -> None:
    script = Answers().command([Question(Printed, {"script": one}) for one in ("echo secret", "exit 3")])
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")


NAMES = Question(Listed, {"names": ["a", "b"]})


def asked(host: ShellHost, questions: Sequence[Question], **arguments: Any) -> list[str]:
    """What the host is asked for a fact beyond what was collected, and that the answer is right."""
    with ctx_host.use(host):
        collect(questions)
        assert fact(Listed, **arguments) == arguments["names"]
    return host.asked[1:]


def test_answer_tells_about_fewer_things_too_and_about_no_others() -> None:
    assert asked(ShellHost(), [NAMES], names=["a", "b"]) == []
    assert asked(ShellHost(), [NAMES], names=["b"]) == []
    assert asked(ShellHost(), [NAMES], names=["b", "c"]) == ["Listed"]
    assert asked(ShellHost(), [NAMES], names=["b"], of="x") == ["Listed"]
    assert asked(ShellHost(), [], names=["b"]) == ["Listed"]


def test_output_is_read_once_for_what_is_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    process = Listed.process

    def noting(asked: Listed, output: list[str]) -> list[str]:
        read.append(asked.names)
        return process(asked, output)

    monkeypatch.setattr(Listed, "process", noting)
    with ctx_host.use(ShellHost()):
        assert collect([Question(Listed, {"names": ["a", "b"]})])
        for names in (["a"], ["a"], ["b"]):
            assert fact(Listed, names=names) == names
    assert read == [["a"], ["b"]]


@operation()
def changing(commands: int) -> Generator[StringCommand, None, None]:
    """Yield so many commands."""
    for _ in range(commands):
        yield StringCommand("true")


@operation()
def changing_what_is_listed(names: list[str]) -> Generator[StringCommand, None, None]:
    """Yield a command with what is listed."""
    yield StringCommand(" ".join(fact(Listed, names=names)))


def test_operation_that_has_something_to_do_decides_from_what_the_host_says_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ctx_host.use(ShellHost()):
        collect([NAMES])
        monkeypatch.setattr(Listed, "process", lambda *_: ["changed", "meanwhile"])
        (command,) = changing_what_is_listed._inner(names=["a"])
        assert command.get_raw_value() == "changed meanwhile"


def test_answers_do_not_count_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    host = ShellHost()
    with ctx_host.use(host):
        collect([NAMES])
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 250)
        fact(Listed, names=["a"])
        assert host.asked == ["Answers"]
        monkeypatch.setattr(time, "monotonic", lambda: now + 301)
        fact(Listed, names=["a"])
    assert host.asked == ["Answers", "Listed"]


@pytest.mark.parametrize(("commands", "is_executing", "again"), [(1, True, ["Listed"]), (0, True, []), (1, False, [])])
def test_host_is_asked_again_once_an_operation_has_run_a_command(
    commands: int, is_executing: bool, again: list[str]
) -> None:
    host = ShellHost(SimpleNamespace(is_executing=is_executing))
    with ctx_host.use(host):
        collect([NAMES])
        list(changing._inner(commands=commands))
        fact(Listed, names=["a"])
        assert host.asked[1:] == again
        fact(Listed, names=["a"])
        assert host.asked[1:] == again * 2


def test_answers_of_one_host_are_not_those_of_another() -> None:
    changed, other = ShellHost(), ShellHost()
    for host in (changed, other):
        with ctx_host.use(host):
            collect([NAMES])
    with ctx_host.use(changed):
        list(changing._inner(commands=1))
    for host in (changed, other):
        with ctx_host.use(host):
            fact(Listed, names=["a"])
    assert (changed.asked, other.asked) == (["Answers", "Listed"], ["Answers"])


@pytest.mark.parametrize("executing_first", [False, True])
def test_answers_from_the_preparation_are_not_used_while_pyinfra_executes(executing_first: bool) -> None:
    """Nor the other way round."""
    host = ShellHost(SimpleNamespace(is_executing=executing_first))
    with ctx_host.use(host):
        collect([NAMES])
        host.state.is_executing = not executing_first
        fact(Listed, names=["a"])
    assert host.asked == ["Answers", "Listed"]


def test_output_that_cannot_be_read_is_asked_for_by_pyinfra_which_fails_the_host() -> None:
    host = ShellHost()
    with ctx_host.use(host):
        collect([Question(Listed, {"names": ["unreadable"]})])
        with pytest.raises(FactProcessError, match="cannot be read"):
            fact(Listed, names=["unreadable"])
    assert host.asked == ["Answers", "Listed"]
