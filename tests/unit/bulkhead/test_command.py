"""How other programs are run."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead import command
from bulkhead.errors import Failed

from .programs import program


def test_system_programs_are_found_with_the_path_that_cron_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert command.output_of(["chroot", "--version"], 10).startswith("chroot")


def test_program_in_the_working_directory_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "no-such-lvs", "echo taken")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        command.output_of(["no-such-lvs"], 10)


def test_command_that_does_not_end_is_given_up() -> None:
    with pytest.raises(Failed, match="`sleep 60` did not end within 0 s"):
        command.run("sleep", "60", timeout=0.05)


def test_failure_has_the_words_of_the_program(tmp_path: Path) -> None:
    program(tmp_path / "no", "echo why not >&2; exit 1")
    with pytest.raises(Failed, match=r"`.*/no a b` failed: why not$"):
        command.run(f"{tmp_path}/no", "a", "b", "c")
