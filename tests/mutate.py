"""Put faults into the code, one at a time, and show those that no unit test notices. For scripts/mutate.

cosmic-ray makes the faults in Python modules. It knows no shell: the faults in shell scripts are made here.

To start pytest and to collect the tests takes longer than most of them. So a process collects the tests once, and forks for
each fault. The fork gives the functions the faulty code, and runs the tests that reach the faulty line. In a new process all
tests run for what such a fork does not show: a fault in what runs at import, and each that the fork did not notice.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import gc
import importlib
import inspect
import itertools
import os
import pickle
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import pytest

TOP = Path(__file__).parents[1]
LIST = TOP / "tests" / "mutants.toml"
_LIBRARIES = ["jinja2", "pydantic", "pyinfra.api", "pyinfra.operations.files"]  # imported once, for all processes
_SLACK = 30  # seconds that the tests may take with a fault beyond five times what they take without one


class Fault(NamedTuple):
    """A line of the code, and the same line with a fault."""

    line: str
    fault: str  # empty: the line is left out


@dataclass(frozen=True)
class Subject:
    """A file of the code, and the tests that must notice a fault in it."""

    path: str
    tests: Sequence[str]


def examples(path: str) -> list[str]:
    """Return the test that runs the examples in a module's docstrings, if it has any."""
    if not path.endswith(".py") or ">>> " not in (TOP / path).read_text():
        return []
    return [f"tests/unit/test_examples.py::test_examples_hold[{path.removesuffix('.py').replace('/', '.')}]"]


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
    import parso
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes

    tree = parso.parse(text)
    nodes = [*ast_nodes(tree)]
    for name in plugins.operator_names():
        # `str | None` in an annotation is no operation, and every other mutation of `|` is an error at once. `==` and `is`
        # differ by what the interpreter happens to share.
        no_fault = re.search(r"_BitOr_|_Eq_Is$|_Is_Eq$|_NotEq_IsNot$|_IsNot_NotEq$", name)
        if no_fault or plugins.get_operator(name).arguments():
            continue
        operator = plugins.get_operator(name)()
        for node in nodes:
            if node.parent and node.parent.type == "parameters":
                continue  # a bare `*` among the parameters is no operation
            for index, _ in enumerate(operator.mutation_positions(node)):
                module = _mutated(tree, node, operator, index)
                fault = _fault_between(text, module)
                if fault.line != "if TYPE_CHECKING:" and fault != _THAWED:
                    yield fault, module


def _mutated(tree: Any, node: Any, operator: Any, index: int) -> str:
    """Return a module with a mutation. The tree is the same afterwards: to parse it anew for each fault takes long."""
    from cosmic_ray.ast import ast_nodes

    branches = [(part, part.children[:]) for part in (node.parent, *ast_nodes(node)) if hasattr(part, "children")]
    leaves = [(part, part.value) for part in ast_nodes(node) if hasattr(part, "value")]
    mutant = operator.mutate(node, index)
    if mutant is not node:
        node.parent.children = [part for child in node.parent.children if (part := mutant if child is node else child)]
    module: str = tree.get_code()
    for part, children in branches:
        part.children = children
    for part, value in leaves:
        part.value = value
    return module


def _fault_between(text: str, faulty: str) -> Fault:
    """Return the fault that makes the difference between two modules."""
    old, new = text.splitlines(), faulty.splitlines()
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    changes = [line for line in difflib.ndiff(old, new) if line[0] in "+-"]
    removed, added = (" ".join(line[1:].strip() for line in changes if line[0] == sign) for sign in "-+")
    return Fault(removed, added)


class Record(NamedTuple):
    """What the tests of a file do while no fault is in it."""

    costs: dict[str, float]  # seconds, by test
    reaching: dict[int, list[str]]  # tests, by the line of the file that they run

    def select(self, tests: Iterable[pytest.Item], line: int = 0) -> list[pytest.Item]:
        """Return tests, the cheapest first: all, or those that run a line, if any are known to."""
        reaching = self.reaching.get(line)
        chosen = [test for test in tests if not reaching or test.nodeid in reaching]
        return sorted(chosen, key=lambda test: self.costs.get(test.nodeid, 0))


class _Recorder:
    """For pytest: writes down what each test costs and which lines of a file it runs."""

    def __init__(self, file: Path, target: Path) -> None:
        self._file, self._target = file, target
        self._costs: dict[str, float] = {}
        self._tracer = _tracer(file) if file.suffix == ".py" else None
        if self._tracer:
            self._tracer.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        if self._tracer:
            self._tracer.switch_context(item.nodeid)
        began = time.monotonic()
        result = yield
        self._costs[item.nodeid] = time.monotonic() - began
        return result

    def pytest_sessionfinish(self) -> None:
        lines = {}
        if self._tracer:
            self._tracer.stop()
            lines = self._tracer.get_data().contexts_by_lineno(str(self._file))
        self._target.write_bytes(pickle.dumps((self._costs, dict(lines))))


def _tracer(file: Path) -> Any:
    """Return what notes the lines of a file that run, for each test."""
    import coverage

    return coverage.Coverage(data_file=None, config_file=False, include=[str(file)])


class _Collected:
    """For pytest: collects the tests, and runs them in a fork for each fault. Writes down which faults they notice so."""

    def __init__(self, file: Path, faults: Sequence[tuple[Fault, str]], target: Path) -> None:
        self._file, self._faults, self._target = file, faults, target

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Return True in this process, and None in a fork, where pytest goes on and runs the tests."""
        sys.dont_write_bytecode = True
        for cached in self._file.parent.glob(f"__pycache__/{self._file.stem}.*"):
            cached.unlink()  # Python would take it for that of a module with a fault, if both have one size
        passed = _fork()
        if passed is None:
            session.config.pluginmanager.register(_Recorder(self._file, self._target))
            session.items.reverse()  # a test that needs another one before it fails here, and does not seem to notice a fault
            return None
        if not passed:
            raise session.Failed
        record = Record(*pickle.loads(self._target.read_bytes()))
        whole = self._file.read_text()
        imported = [one for one in gc.get_objects() if type(one) is FunctionType]
        gc.freeze()  # otherwise each fork would copy all that the garbage collector touches
        noticed = []
        for _, faulty in self._faults:
            functions = faulty_functions(imported, self._file, whole, faulty)
            self._file.write_text(faulty)
            passed = functions is None or _fork(record)
            if passed is None:
                for function, code in functions:
                    function.__code__ = code
                session.items = record.select(session.items, _line_of_the_fault(whole, faulty))
                return None
            noticed.append(not passed)
        self._file.write_text(whole)
        self._target.write_bytes(pickle.dumps((record.costs, noticed)))
        return True


def faulty_functions(
    imported: Iterable[FunctionType], file: Path, whole: str, faulty: str
) -> list[tuple[FunctionType, CodeType]] | None:
    """Return the functions of a module that a fault changes, and their faulty code; None if it changes what runs at import.

    Args:
        imported: all functions there are.
    """
    if file.suffix == ".sh" and file.parent.name != "files":
        return None  # a module reads it at import
    if file.suffix != ".py":
        return []
    try:
        old, new = (compile(text, file, "exec", dont_inherit=True) for text in (whole, faulty))
    except SyntaxError:
        return None
    changes = [(one, other) for one, other in zip(_functions(old), _functions(new), strict=False) if one != other]
    if _import(old) != _import(new) or any(one.co_freevars != other.co_freevars for one, other in changes):
        return None
    functions = [function for function in imported if function.__code__.co_filename == str(file)]
    return [(function, new) for old, new in changes for function in functions if function.__code__ == old]


def _functions(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of each function within a code."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if _is_function(constant):
                yield constant
            yield from _functions(constant)


def _import(code: CodeType) -> CodeType:
    """Return the code of a module or a class without its functions, and without the columns, which show where those end."""
    constants = [_import(one) if isinstance(one, CodeType) else one for one in code.co_consts if not _is_function(one)]
    return code.replace(co_consts=tuple(constants), co_linetable=b"")


def _is_function(constant: object) -> bool:
    return isinstance(constant, CodeType) and bool(constant.co_flags & inspect.CO_OPTIMIZED)


def _line_of_the_fault(whole: str, faulty: str) -> int:
    """Return the number of the first line that differs."""
    pairs = itertools.zip_longest(whole.splitlines(), faulty.splitlines())
    return next(number for number, (one, other) in enumerate(pairs, 1) if one != other)


class _Sorted:
    """For pytest: runs the cheapest test first."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = self._record.select(items)


def unnoticed(subject: Subject, copy: Path, faults: Sequence[tuple[Fault, str]]) -> Iterator[Fault | None]:
    """Yield each fault in a file that the tests do not notice, and None for each that they do.

    Raises:
        FailAnyway: they fail without a fault
    """
    file = copy / subject.path
    whole = file.read_text()
    with tempfile.TemporaryDirectory(prefix="mutate-") as directory:
        target = Path(directory) / "noticed"
        if not _passes(subject, copy, _Collected(file, faults, target)):
            raise FailAnyway
        costs, noticed = pickle.loads(target.read_bytes())
    record = Record(costs, {})
    for (fault, faulty), is_noticed in zip(faults, noticed, strict=True):
        file.write_text(faulty)
        yield None if is_noticed or not _passes(subject, copy, _Sorted(record), record) else fault
    file.write_text(whole)


class FailAnyway(Exception):
    """The tests of a file fail without a fault in it, one of them perhaps because it needs another one before it."""


def _passes(subject: Subject, copy: Path, plugin: object, record: Record | None = None) -> bool:
    """Return whether the tests for a file pass in a new process.

    Args:
        record: what they do without a fault, as far as it is known. Until then Python keeps the modules that it compiles.
    """
    passed = _fork(record)
    if passed is not None:
        return passed
    code = 1
    try:
        os.chdir(copy)
        sys.path[0], sys.dont_write_bytecode = str(copy), record is not None
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]
        silence = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(silence, descriptor)
        unused = ["-p", "no:logging", "-p", "no:xdist", "-p", "no:pytest11.testinfra"]  # plugins, as in scripts/test
        code = pytest.main(["-x", "-q", "--no-header", "--tb=no", *unused, *subject.tests], plugins=[plugin])
    finally:
        os._exit(code)


def _fork(record: Record | None = None) -> bool | None:
    """Return whether a fork of this process ends with 0; None in the fork.

    Args:
        record: what the tests do without a fault: a fork that takes much longer waits for what never comes. It gets a process
            group of its own, which is killed when it ends: a faulty script may run for ever
    """
    pid = os.fork()
    if not pid:
        if record:
            os.setpgid(0, 0)
        return None
    limit = _SLACK + 5 * sum(record.costs.values()) if record else None
    descriptor = os.pidfd_open(pid)
    try:
        select.select([descriptor], [], [], limit)
    finally:
        os.close(descriptor)
        # Before it is waited for: then its number may be another's.
        if record:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    return status == 0


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


def examine(subject: Subject, copy: Path, accepted: dict[Fault, str], draw: Draw | None) -> Count | None:
    """Put faults into a file, print what the tests do not notice, and return the count; None if the tests fail anyway."""
    began = time.monotonic()
    file = copy / subject.path
    faults = [*(python_faults if file.suffix == ".py" else shell_faults)(file.read_text())]
    try:
        results = list(unnoticed(subject, copy, draw.from_(faults) if draw else faults))
    except FailAnyway:
        print(f"{subject.path}: its tests fail without any fault: {' '.join(subject.tests)}")
        return None
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is ended first
    draw = Draw(options.sample, options.seed) if options.sample else None
    known: dict[str, Any] = toml.loads(LIST.read_text())
    subjects = [
        Subject(path, [*group["tests"], *examples(path)]) for group in known["group"] for path in group["paths"]
    ]
    for name in _LIBRARIES:
        importlib.import_module(name)
    counts = []
    with tempfile.TemporaryDirectory(prefix="mutate-") as directory:
        copy = copy_of_the_checkout(directory)
        for subject in subjects:
            if not options.paths or subject.path in options.paths:
                accepted = {
                    Fault(one["line"], one["fault"]): one["reason"]
                    for one in known.get("accepted", [])
                    if one["path"] == subject.path
                }
                counts.append(examine(subject, copy, accepted, draw))
    done = [count for count in counts if count]
    total = Count(*(sum(column) for column in zip(*done, strict=True))) if done else Count()
    print(
        f"{len(done)} files: {total} ({100 * total.noticed / max(1, total.tried - total.accepted):.1f} % of the others)"
    )
    return 0 if len(done) == len(counts) and total.is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
