"""Put faults into the code, one at a time, and show those that no unit test notices. For scripts/mutate.

cosmic-ray makes the faults in Python modules and runs the tests. It knows no shell: the faults in shell scripts are made here.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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

    def command(self) -> list[str]:
        return [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", *self.tests]


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


def unnoticed_in_shell(subject: Subject, copy: Path) -> Iterator[Fault | None]:
    """Yield each fault in a shell script that the tests do not notice, and None for each that they do."""
    file = copy / subject.path
    whole = file.read_text()
    for fault, script in shell_faults(whole):
        file.write_text(script)
        try:
            done = subprocess.run(subject.command(), cwd=copy, capture_output=True, timeout=300)
            yield fault if done.returncode == 0 else None
        except subprocess.TimeoutExpired:
            yield None
        finally:
            file.write_text(whole)


def unnoticed_in_python(subject: Subject, copy: Path) -> Iterator[Fault | None]:
    """Yield the same for a Python module."""
    import toml  # comes with cosmic-ray

    configuration = {
        "cosmic-ray": {
            "module-path": subject.path,
            "timeout": 300.0,
            "excluded-modules": [],
            "test-command": " ".join(subject.command()),
            "distributor": {"name": "local"},
            # `str | None` in an annotation is no operation, and every other mutation of `|` is an error at once.
            "filters": {"operators-filter": {"exclude-operators": ["core/ReplaceBinaryOperator_BitOr_.*"]}},
        }
    }
    (copy / "mutate.toml").write_text(toml.dumps(configuration))
    tools = Path(sys.executable).parent
    for line in (
        ["cosmic-ray", "init", "mutate.toml", "session.sqlite", "--force"],
        ["cr-filter-operators", "session.sqlite", "mutate.toml"],
        ["cosmic-ray", "exec", "mutate.toml", "session.sqlite"],
    ):
        subprocess.run([tools / line[0], *line[1:]], cwd=copy, check=True, stdout=subprocess.DEVNULL)
    dump = [tools / "cosmic-ray", "dump", "session.sqlite"]
    for line in subprocess.run(dump, cwd=copy, check=True, capture_output=True, text=True).stdout.splitlines():
        _, result = json.loads(line)
        if result and result["worker_outcome"] == "normal":
            yield _fault_of(result["diff"]) if result["test_outcome"] == "survived" else None


def _fault_of(diff: str) -> Fault:
    """Return the fault that a diff shows."""
    changes = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    removed, added = (" ".join(line[1:].strip() for line in changes if line[0] == sign) for sign in "-+")
    return Fault(removed, added)


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


def examine(subject: Subject, accepted: dict[Fault, str]) -> bool:
    """Put every fault into a file, print what the tests do not notice, and return whether all of that is accepted."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutate-") as directory:
        copy = copy_of_the_checkout(directory)
        if subprocess.run(subject.command(), cwd=copy, stdout=subprocess.DEVNULL).returncode:
            print(f"{subject.path}: its tests fail without any fault: {' '.join(subject.tests)}")
            return False
        unnoticed = unnoticed_in_python if subject.path.endswith(".py") else unnoticed_in_shell
        results = list(unnoticed(subject, copy))
    left = [fault for fault in results if fault]
    open_ones = [fault for fault in left if fault not in accepted]
    share = f"{len(results) - len(left)} of {len(results)} faults noticed, {len(left) - len(open_ones)} accepted"
    print(f"{subject.path}: {share}, in {time.monotonic() - began:.0f} s", flush=True)
    for fault in open_ones:
        print(f"    not noticed: {fault.line}\n           with: {fault.fault or '(without this line)'}")
    for fault in accepted.keys() - set(left):
        print(f"    accepted, but noticed or gone: {fault.line}\n                             with: {fault.fault}")
    return not open_ones


def main(paths: list[str]) -> int:
    import toml

    known: dict[str, Any] = toml.loads(LIST.read_text())
    subjects = [Subject(path, group["tests"]) for group in known["group"] for path in group["paths"]]
    results = []
    for subject in subjects:
        if not paths or subject.path in paths:
            accepted = {
                Fault(one["line"], one["fault"]): one["reason"]
                for one in known.get("accepted", [])
                if one["path"] == subject.path
            }
            results.append(examine(subject, accepted))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
