"""Nothing is done without consent."""

from __future__ import annotations

import argparse
import sys

import pytest

from bulkhead.errors import Failed
from bulkhead.outage.prompt import consents


@pytest.mark.parametrize(("answer", "agrees"), [("y", True), (" YES ", True), ("", False), ("n", False)])
def test_person_at_the_terminal_is_asked(monkeypatch: pytest.MonkeyPatch, answer: str, agrees: bool) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answer)
    assert consents(argparse.Namespace(yes=False), "Docker stops.") == agrees
    assert asked == ["Docker stops. Go on? [y/N] "]


def test_end_of_input_is_no_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(_: str) -> str:
        raise EOFError

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", end)
    assert not consents(argparse.Namespace(yes=False), "Docker stops.")


def test_without_a_terminal_consent_is_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert consents(argparse.Namespace(yes=True), "Docker stops.")
    with pytest.raises(Failed, match=r"stdin is not a terminal; pass --yes"):
        consents(argparse.Namespace(yes=False), "Docker stops.")
