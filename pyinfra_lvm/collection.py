"""Ask a host for several facts in one command, and decide from the answers until an operation changes the host.

pyinfra asks for each fact by a command of its own, and remembers none. Here the answers of one command serve every
operation that follows it. They end with the first command of an operation, because it may have changed anything: from
then on each operation asks again, and only for what it needs itself. Answers from while pyinfra prepares are not used
while it executes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from pyinfra import api
from pyinfra.api import FactBase, FactProcessError, Host
from pyinfra.api.arguments_typed import PyinfraOperation
from pyinfra.context import ctx_host

T = TypeVar("T")
P = ParamSpec("P")

_MARK = "##FACT##"


class Question(NamedTuple):
    """A fact, and what it is asked about."""

    fact: type[FactBase[Any]]
    arguments: dict[str, Any]

    def __repr__(self) -> str:
        return self.fact.name

    def covers(self, fact: type[FactBase[Any]], arguments: dict[str, Any]) -> bool:
        """Return whether the answer tells the other question's too: it is the same, or about no more things."""
        return fact is self.fact and all(
            set(value) <= set(self.arguments.get(name) or ())
            if isinstance(value, list)
            else value == self.arguments.get(name)
            for name, value in arguments.items()
        )


@dataclass(frozen=True)
class Answer:
    """What a host has said to a question."""

    question: Question
    output: list[str]

    def value(self, arguments: dict[str, Any]) -> Any:
        """Return the fact, about these things alone.

        Raises:
            FactProcessError: the output cannot be read.
        """
        fact = self.question.fact()
        fact.command(**arguments)  # a fact may tell from its arguments what belongs to the answer
        return fact.process(self.output) if self.output else fact.default()


class Answers(FactBase[list[Answer]]):
    """Return the answers to several questions, in their order. A fact whose command fails ends the command.

    Args:
        questions: facts with their arguments.
    """

    def command(self, questions: Sequence[Question]) -> str:
        self.questions = questions
        # In subshells, where a command may set variables, change the directory, and exit.
        commands = (f"(\n{fact().command(**arguments)}\n) || exit\n" for fact, arguments in questions)
        return "".join(f"printf '{_MARK}\\n'\n{command}echo\n" for command in commands)

    def process(self, output: list[str]) -> list[Answer]:
        found: list[list[str]] = []
        for line in output:
            if line == _MARK:
                found.append([])
            elif found:
                found[-1].append(line)
        if len(found) != len(self.questions):
            raise FactProcessError(f"{len(self.questions)} facts were asked for, and {len(found)} came")
        # The `echo` ends the last line, or adds an empty one.
        return [
            Answer(question, lines[:-1] if lines[-1:] == [""] else lines)
            for question, lines in zip(self.questions, found, strict=True)
        ]


# Host → whether pyinfra was executing, and the answers.
_answers: WeakKeyDictionary[Host, tuple[bool, list[Answer]]] = WeakKeyDictionary()


def collect(questions: Sequence[Question]) -> bool:
    """Ask the host, and have `fact` answer from what it says. Return whether it could be asked: otherwise it has failed."""
    host = ctx_host.get()
    forget()
    if found := host.get_fact(Answers, questions=questions):
        _answers[host] = (host.state.is_executing, found)
    return bool(found)


def forget() -> None:
    """Have `fact` ask the host again."""
    _answers.pop(ctx_host.get(), None)


def fact(wanted: type[FactBase[T]], **arguments: Any) -> T:
    """Return a fact of the host: from the answers where nothing has changed since then, otherwise by asking."""
    host = ctx_host.get()
    was_executing, answers = _answers.get(host, (False, []))
    for answer in answers if was_executing == host.state.is_executing else ():
        if answer.question.covers(wanted, arguments):
            try:
                value: T = answer.value(arguments)
            except FactProcessError:
                break  # pyinfra fails a host where it asks itself
            return value
    asked: T = host.get_fact(wanted, **arguments)
    return asked


def operation() -> Callable[[Callable[P, Generator[Any, None, None]]], PyinfraOperation[P]]:
    """Make a pyinfra operation, like pyinfra's own decorator, whose commands end the answers about the host."""

    def decorated(inner: Callable[P, Generator[Any, None, None]]) -> PyinfraOperation[P]:
        @wraps(inner)
        def forgetting(*args: P.args, **kwargs: P.kwargs) -> Generator[Any, None, None]:
            for command in inner(*args, **kwargs):
                if ctx_host.get().state.is_executing:  # while pyinfra prepares, no command runs
                    forget()
                yield command

        return api.operation()(forgetting)

    return decorated
