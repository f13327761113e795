"""Parse arguments, and say in a sentence what is wrong with them."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

_WRONG_ARGUMENTS = 2  # exit code

# What argparse says → what it means.
_SENTENCES = {
    r"the following arguments are required: (.+)": r"\1 is missing",
    r"one of the arguments (\S+) (\S+) is required": r"either \1 or \2 is needed",
    r"argument (\S+): expected one argument": r"\1 needs a value",
    r"argument (\S+): ignored explicit argument .+": r"\1 takes no value",
    r"argument (\S+): not allowed with argument (\S+)": r"\1 and \2 exclude each other",
    r"ambiguous option: (\S+) could match (.+)": r"\1 can mean any of \2",
    r"unrecognized arguments: (.+)": r"it has no argument \1",
    r"argument ([^:]+): (.+)": r"\1 \2",
}
_NO_CHOICE = re.compile(r"argument (\w+): invalid choice: '(.*)' \(choose from (.+)\)", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """One whose errors are sentences."""

    exit_code = _WRONG_ARGUMENTS

    def error(self, message: str) -> NoReturn:
        self.exit(self.exit_code, f"{self.prog}: {sentence(message)} See `{self.prog} --help`\n")


def sentence(message: str) -> str:
    """Return an error of argparse as a sentence; one that is not known here stays as it is.

    >>> sentence("argument --join: not allowed with argument --recover")
    '--join and --recover exclude each other.'
    >>> sentence("argument COMMAND: invalid choice: 'stats' (choose from 'status', 'check')")
    'there is no command stats. Did you mean status?'
    >>> sentence("argument ACTION: invalid choice: 'x' (choose from create, list)")
    'there is no action x. Choose from create, list.'
    """
    if match := _NO_CHOICE.fullmatch(message):
        import difflib

        kind, given, choices = match[1].lower(), match[2], re.findall(r"[\w-]+", match[3])
        similar = difflib.get_close_matches(given, choices, n=1)
        hint = f"Did you mean {similar[0]}?" if similar else f"Choose from {', '.join(choices)}."
        return f"there is no {kind} {given}. {hint}"
    matches = ((re.fullmatch(pattern, message, re.DOTALL), meaning) for pattern, meaning in _SENTENCES.items())
    return next((match.expand(meaning) for match, meaning in matches if match), message) + "."
