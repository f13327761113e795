"""The commands of a RUN."""

from __future__ import annotations

import doctest

import pytest

from bulkhead.dockerfile import syntax
from bulkhead.review import bases, cargo, instead, model, packages, shell
from bulkhead.review.shell import Call, calls_in, calls_of


@pytest.mark.parametrize("module", [bases, cargo, instead, model, packages, shell], ids=lambda module: module.__name__)
def test_examples_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted
    assert not result.failed


def lines(calls: tuple[Call, ...]) -> list[str]:
    """Return commands as lines; a question mark: it may not run."""
    return ["?" * (not call.is_certain) + " ".join((call.name, *call.words)) for call in calls]


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("a && b; c || d | e & f\ng", ["a", "b", "c", "?d", "?e", "f", "g"]),
        ("a || true && b", ["a", "?true", "b"]),
        ("echo 'pip install x; a' && b", ["echo pip install x; a", "b"]),
        ('x="a b" && y $x "$x"', ["y a b a b"]),
        ("export P='gcc g++' && apt-get install $P", ["apt-get install gcc g++"]),
        ("a >/dev/null 2>&1 && b <x >> y", ["a", "b"]),
        ("if a; then b; else c; fi; d", ["?a", "?b", "?c", "d"]),
        ("for x in a b; do c $x; done; d", ["c $x", "d"]),
        ("while a; do b; done && c", ["?a", "?b", "c"]),
        ("case $x in a) b ;; *) c ;; esac; d", ["?b", "?*", "?c", "d"]),
        ("f() { a; }; b", ["?a", "?b"]),
        ("[ -f x ] && a; test -d y && b && c", ["[ -f x ]", "?a", "test -d y", "?b", "c"]),
        ("(cd /x && a) && { b; }", ["cd /x", "a", "b"]),
        ("a $(b c; d) e && f", ["a $() e", "f"]),
        ("a <(b) && c", ["a", "c"]),
        ("sudo -E -u x env A=1 nice -n 5 a b", ["a b"]),
        ("bash -euxo pipefail -c 'a && b' && sh script", ["a", "b", "sh script"]),
        ("/opt/venv/bin/python3.11 -m pip install x", ["pip install x"]),
        ("pip3 install a && poetry run python x && conda run -n e python y", ["pip install a", "python x", "python y"]),
        ("# pip install x\na", ["a"]),
        ("a \\\n  b", ["a b"]),
        ('echo "never closed', []),
        ("a # and a comment's end", []),
        ("find . -exec rm {} \\; && b", ["find . -exec rm {}", "b"]),
        ("pip install git+https://example.org/a#egg=a 'b>=1'", ["pip install git+https://example.org/a#egg=a b>=1"]),
    ],
)
def test_script_is_its_commands(text: str, commands: list[str]) -> None:
    assert lines(calls_in(text)) == commands


def run_of(text: str, *shell_words: str, **variables: str) -> tuple[Call, ...]:
    instruction = syntax.parse(f"FROM a\n{text}\n".encode()).instructions[-1]
    return calls_of(instruction, "/build", variables, shell_words)


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("RUN a && \\\n # comment\n b", ["a", "b"]),
        ('RUN ["a", "b; c"]', ["a b; c"]),
        ('RUN ["sh", "-c", "a; b"]', ["a", "b"]),
        ("RUN --mount=type=cache,target=/x a", ["a"]),
        ("RUN <<EOF\na\nb c\nEOF", ["a", "b c"]),
        ("RUN <<EOF\n#!/bin/bash\na\nEOF", ["a"]),
        ("RUN <<EOF\n#!/usr/bin/env python3\nimport a\nEOF", ["python -c import a\n"]),
        ("RUN <<EOF\n#!/usr/bin/perl\na\nEOF", []),
        ("RUN python3 <<EOF\nimport a\nEOF", ["python -c import a\n"]),
        ("RUN bash -e <<EOF\na\nEOF", ["a"]),
        ("RUN cat <<EOF > /x\npip install a\nEOF", ["cat"]),
        ("RUN a <<ONE && b <<TWO\n1\nONE\n2\nTWO", ["a", "b"]),
    ],
)
def test_run_is_its_commands(text: str, commands: list[str]) -> None:
    assert lines(run_of(text)) == commands


def test_shell_that_is_none_of_unix_is_left_alone() -> None:
    assert run_of("RUN rm a", "powershell", "-Command") == ()
    assert run_of("RUN rm a", "C:\\Windows\\cmd.exe", "/S", "/C") == ()
    assert lines(run_of("RUN rm a", "/bin/bash", "-o", "pipefail", "-c")) == ["rm a"]


def test_variables_are_known_as_far_as_they_are() -> None:
    assert lines(run_of("RUN a $X ${X}-y ${Z:-z} $W", X="1")) == ["a 1 1-y z $W"]


def test_directory_is_followed() -> None:
    first, _, second = run_of("RUN a && cd b && c")
    assert (first.directory, second.directory) == ("/build", "/build/b")


def test_what_is_written_and_set_is_known() -> None:
    (call,) = run_of("RUN A=1 curl x > /y 2>/dev/null")
    assert (call.written, call.settings) == (("/y", "/dev/null"), {"A": "1"})
