"""Put faults into the code, one at a time, and show those that no unit test notices. For scripts/mutate.

cosmic-ray makes the faults in Python modules. It knows no shell: the faults in shell scripts are made here. The tests run in
forks of this process, which has imported pytest: to start pytest anew takes longer than most of the tests.
"""

from __future__ import annotations

import argparse
import difflib
import gc
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

TOP = Path(__file__).parents[1]
LIST = TOP / "tests" / "mutants.toml"


class Fault(NamedTuple):
    """A line of the code, and the same line with a fault."""

    line: str
    fault: str  # empty: the line is left out


@dataclass(frozen=True)
class Subject:
    """A file of the code, and the tests that must notice a fault in it."""

    path: str
    tests: Sequence[str]


class Draw(NamedTuple):
    """How many faults of a file are tried, and the seed that decides which."""

    size: int
    seed: str

    def from_(self, faults: list[tuple[Fault, str]]) -> list[tuple[Fault, str]]:
        """Return some of the faults, or all if they are few."""
        return random.Random(self.seed).sample(faults, min(self.size, len(faults)))


# What changes the meaning of a line of shell. The first that matches a place is applied there, one place at a time.
_CHANGES = [
    (r" && ", " || "),
    (r" \|\| ", " && "),
    (r"(?<=\[ )-n ", "-z "),
    (r"(?<=\[ )-z ", "-n "),
    (r"(?<=\[ )-([efds]) ", r"! -\1 "),
    (r"(?<=\[ )! ", ""),
    (r"(?<![\w!])! (?=[a-z\[])", ""),
    (r" -eq ", " -ne "),
    (r" -ne ", " -eq "),
    (r" -lt ", " -le "),
    (r" -le ", " -lt "),
    (r" -gt ", " -ge "),
    (r" -ge ", " -gt "),
    (r" = ", " != "),
    (r" != ", " = "),
    (r"\bexit 1\b", "exit 0"),
    (r"\breturn 1\b", "return 0"),
    (r"\bsync \"?\$[^;&\n]*", "true"),
]
# Lines that are no command by themselves.
_NO_COMMAND = re.compile(r"\s*($|#|\{%|(if|then|else|elif|fi|do|done|case|esac|while|for)\b|[{}]|\w+\(\) )|.*\\$")


def shell_faults(text: str) -> Iterator[tuple[Fault, str]]:
    """Yield each fault in a shell script, and the script with it, as far as it is still a script."""
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.lstrip().startswith("#"):
            continue
        changed = [
            line[: match.start()] + match.expand(new) + line[match.end() :]
            for old, new in _CHANGES
            for match in re.finditer(old, line)
        ]
        if not _NO_COMMAND.match(line):
            changed.append("")
        for new in changed:
            script = "".join([*lines[:number], new, *lines[number + 1 :]])
            if _is_script(script):
                yield Fault(line.strip(), new.strip()), script


def _is_script(text: str) -> bool:
    """Return whether the shell can read a script, with something in the place of each value of a template."""
    plain = re.sub(r"\{%.*?%\}", "", re.sub(r"\{\{.*?\}\}", "true", text))
    return subprocess.run(["sh", "-n"], input=plain, text=True, capture_output=True).returncode == 0


# This and what is below `if TYPE_CHECKING:` serve mypy alone, which reports every assignment to a frozen value.
_THAWED = Fault("@dataclass(frozen=True)", "@dataclass(frozen=False)")


def python_faults(text: str) -> Iterator[tuple[Fault, str]]:
    """Yield the same for a Python module."""
    from cosmic_ray import mutating, plugins

    for name in plugins.operator_names():
        # `str | None` in an annotation is no operation, and every other mutation of `|` is an error at once. `==` and `is`
        # differ by what the interpreter happens to share.
        no_fault = re.search(r"_BitOr_|_Eq_Is$|_Is_Eq$|_NotEq_IsNot$|_IsNot_NotEq$", name)
        if no_fault or plugins.get_operator(name).arguments():
            continue
        for occurrence in itertools.count():
            module = mutating.mutate_code(text, plugins.get_operator(name)(), occurrence)
            if module is None:
                break
            fault = _fault_between(text, module)
            if fault.line != "if TYPE_CHECKING:" and fault != _THAWED:
                yield fault, module


def _fault_between(text: str, faulty: str) -> Fault:
    """Return the fault that makes the difference between two modules."""
    lines = difflib.ndiff(text.splitlines(), faulty.splitlines())
    changes = [line for line in lines if line[0] in "+-"]
    removed, added = (" ".join(line[1:].strip() for line in changes if line[0] == sign) for sign in "-+")
    return Fault(removed, added)


def unnoticed(subject: Subject, copy: Path, draw: Draw | None = None) -> Iterator[Fault | None]:
    """Yield each fault in a file that the tests do not notice, and None for each that they do."""
    file = copy / subject.path
    whole = file.read_text()
    for cached in file.parent.glob(f"__pycache__/{file.stem}.*"):
        cached.unlink()  # Python would take it for that of a module with a fault, if both have one size
    faults = [*(python_faults if file.suffix == ".py" else shell_faults)(whole)]
    for fault, faulty in draw.from_(faults) if draw else faults:
        file.write_text(faulty)
        yield fault if _passes(subject, copy) else None
    file.write_text(whole)


def _passes(subject: Subject, copy: Path, *, seconds: int = 300, compiles: bool = False) -> bool:
    """Return whether the tests for a file pass in time.

    Args:
        compiles: whether Python keeps the modules that it compiles.
    """
    if pid := os.fork():
        return os.waitpid(pid, 0)[1] == 0
    gc.freeze()  # what this process has is not looked through again and again
    code = 1
    try:
        signal.alarm(seconds)
        os.chdir(copy)
        sys.path[0], sys.dont_write_bytecode = str(copy), not compiles
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]
        silence = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(silence, descriptor)
        code = pytest.main(["-x", "-q", "--no-header", "--tb=no", *subject.tests])
    finally:
        os._exit(code)


def copy_of_the_checkout(directory: str) -> Path:
    """Copy what git knows of the checkout, with changes that are not committed."""
    line = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(line, cwd=TOP, check=True, capture_output=True, text=True).stdout
    copy = Path(directory)
    for name in filter(None, listed.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TOP / name, copy / name, follow_symlinks=False)
    subprocess.run("git init -q . && git add -A", shell=True, cwd=copy, check=True)  # some tests ask git for the files
    return copy


class Count(NamedTuple):
    """How many faults were tried, noticed, and accepted without being noticed."""

    tried: int = 0
    noticed: int = 0
    accepted: int = 0

    @property
    def is_good(self) -> bool:
        """Whether every fault was noticed or is accepted."""
        return self.noticed + self.accepted == self.tried

    def __str__(self) -> str:
        """Return the counts as a sentence."""
        return f"{self.noticed} of {self.tried} faults noticed, {self.accepted} accepted"


def examine(subject: Subject, accepted: dict[Fault, str], draw: Draw | None) -> Count | None:
    """Put faults into a file, print what the tests do not notice, and return the count; None if the tests fail anyway."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutate-") as directory:
        copy = copy_of_the_checkout(directory)
        if not _passes(subject, copy, compiles=True):
            print(f"{subject.path}: its tests fail without any fault: {' '.join(subject.tests)}")
            return None
        results = list(unnoticed(subject, copy, draw))
    left = [fault for fault in results if fault]
    open_ones = [fault for fault in left if fault not in accepted]
    count = Count(len(results), len(results) - len(left), len(left) - len(open_ones))
    print(f"{subject.path}: {count}, in {time.monotonic() - began:.0f} s", flush=True)
    for fault in open_ones:
        print(f"    not noticed: {fault.line}\n           with: {fault.fault or '(without this line)'}", flush=True)
    for fault in accepted.keys() - set(left) if not draw else ():
        print(f"    accepted, but noticed or gone: {fault.line}\n                             with: {fault.fault}")
    return count


def main(arguments: list[str]) -> int:
    import toml

    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", default="0")
    parser.add_argument("paths", nargs="*")
    options = parser.parse_args(arguments)
    draw = Draw(options.sample, options.seed) if options.sample else None
    known: dict[str, Any] = toml.loads(LIST.read_text())
    subjects = [Subject(path, group["tests"]) for group in known["group"] for path in group["paths"]]
    counts = []
    for subject in subjects:
        if not options.paths or subject.path in options.paths:
            accepted = {
                Fault(one["line"], one["fault"]): one["reason"]
                for one in known.get("accepted", [])
                if one["path"] == subject.path
            }
            counts.append(examine(subject, accepted, draw))
    done = [count for count in counts if count]
    total = Count(*(sum(column) for column in zip(*done, strict=True))) if done else Count()
    print(
        f"{len(done)} files: {total} ({100 * total.noticed / max(1, total.tried - total.accepted):.1f} % of the others)"
    )
    return 0 if len(done) == len(counts) and total.is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
