"""Ask a host for several facts in one command, and let operations see from the answers that there is nothing to do.

pyinfra asks for each fact by a command of its own, and remembers none. Here the answers of one command serve every
operation that follows it, as long as none has anything to do. An operation that would change the host decides once more,
and asks the host itself: the answers may be old, because a host waits for the slowest of its fleet. From then on each
operation asks, and only for what it needs. Answers from while pyinfra prepares are not used while it executes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from pyinfra import api
from pyinfra.api import FactBase, FactProcessError, Host
from pyinfra.api.arguments_typed import PyinfraOperation
from pyinfra.context import ctx_host

T = TypeVar("T")
P = ParamSpec("P")

_LIFETIME = 300  # seconds for which the answers of a host count


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
    _values: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def value(self, arguments: dict[str, Any]) -> Any:
        """Return the fact, about these things alone. It is read once, and nobody may change it.

        Raises:
            FactProcessError: the output cannot be read.
        """
        fact = self.question.fact()
        fact.command(**arguments)  # a fact may tell from its arguments what belongs to the answer
        key = repr(vars(fact))
        if key not in self._values:
            self._values[key] = fact.process(self.output) if self.output else fact.default()
        return self._values[key]


class Answers(FactBase[list[Answer]]):
    """Return the answers to several questions, in their order. A fact whose command fails ends the command.

    Output that is no UTF-8 ends what pyinfra reads: of the fact that has it and of those after it there is no answer.

    Args:
        questions: facts with their arguments.
    """

    def command(self, questions: Sequence[Question]) -> str:
        self.questions = questions
        self.mark = f"##FACT## {secrets.token_hex(8)}"  # which no file on the host has
        # In subshells, where a command may set variables, change the directory, and exit.
        commands = (f"(\n{fact().command(**arguments)}\n) || exit\n" for fact, arguments in questions)
        collected = "".join(f"echo '{self.mark}'\n{command}echo\n" for command in commands)
        # pyinfra shows the output of a command that fails, and a fact may have a secret: the output comes at the end.
        return f"collected=$(\n{collected}echo '{self.mark}'\n) || exit\nprintf '%s\\n' \"$collected\""

    def process(self, output: list[str]) -> list[Answer]:
        found: list[list[str]] = []
        for line in output:
            if line == self.mark:
                found.append([])
            elif found:
                found[-1].append(line)
        if not found:
            raise FactProcessError("the host has answered no question")
        # The `echo` ends the last line, or adds an empty one. What follows the last mark is cut, or nothing.
        return [
            Answer(question, lines[:-1] if lines[-1:] == [""] else lines)
            for question, lines in zip(self.questions, found[:-1], strict=False)
        ]


@dataclass(frozen=True)
class Collected:
    """What a host has answered, and when."""

    answers: list[Answer]
    was_executing: bool  # pyinfra, rather than preparing
    moment: float  # of time.monotonic

    @property
    def counts(self) -> bool:
        """Return whether the answers still count."""
        is_executing = ctx_host.get().state.is_executing
        return self.was_executing == is_executing and time.monotonic() < self.moment + _LIFETIME


_collected: WeakKeyDictionary[Host, Collected] = WeakKeyDictionary()


def collect(questions: Sequence[Question]) -> bool:
    """Ask the host, and have `fact` answer from what it says. Return whether it could be asked: otherwise it has failed."""
    host = ctx_host.get()
    forget()
    if found := host.get_fact(Answers, questions=questions):
        _collected[host] = Collected(found, host.state.is_executing, time.monotonic())
    return bool(found)


def forget() -> None:
    """Have `fact` ask the host again."""
    _collected.pop(ctx_host.get(), None)


def fact(wanted: type[FactBase[T]], **arguments: Any) -> T:
    """Return a fact of the host: from the answers where they count, otherwise by asking."""
    host = ctx_host.get()
    found = _collected.get(host)
    for answer in found.answers if found and found.counts else ():
        if answer.question.covers(wanted, arguments):
            try:
                value: T = answer.value(arguments)
            except FactProcessError:
                break  # pyinfra fails a host where it asks itself
            return value
    asked: T = host.get_fact(wanted, **arguments)
    return asked


def operation() -> Callable[[Callable[P, Generator[Any, None, None]]], PyinfraOperation[P]]:
    """Make a pyinfra operation, like pyinfra's own decorator, that changes nothing because of what was collected."""

    def decorated(inner: Callable[P, Generator[Any, None, None]]) -> PyinfraOperation[P]:
        @wraps(inner)
        def forgetting(*args: P.args, **kwargs: P.kwargs) -> Generator[Any, None, None]:
            host = ctx_host.get()
            found = _collected.get(host)
            if host.state.is_executing and found and found.counts:  # while pyinfra prepares, no command runs
                if next(commands := inner(*args, **kwargs), None) is None:
                    return
                commands.close()
                forget()
            for command in inner(*args, **kwargs):
                if host.state.is_executing:
                    forget()
                yield command

        return api.operation()(forgetting)

    return decorated
