"""What the rules find in Dockerfiles of the usual shapes. Each says in its comments what is expected:

# file: PATH = SIZE    the context has a file of that size
# file: PATH : TEXT    the context has a file with that content; \\n begins a new line
# ignore: LINE         of .dockerignore; `none`: there is no such file
# target: STAGE        the stage to build
# expect: RULE …       what is found at the next instruction, and nothing else; RULE/info: with that level;
#                      RULE=2.7GiB: with that size, and =0bytes: without one
# allowed: RULE …      what is found there, and what a waiver allows
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bulkhead.context.page import size
from bulkhead.review.commands import review
from bulkhead.review.page import Review
from bulkhead.sizes import Size

from ..context.contexts import make, options

DOCKERFILES = sorted((Path(__file__).parent / "dockerfiles").glob("*.Dockerfile"))
IGNORED = (".git", "**/.env", "**/.ipynb_checkpoints", "**/__pycache__", "node_modules")


def reviewed(top: Path, text: str, **changed: object) -> Review:
    """Return the review of a Dockerfile in a context that it describes itself."""
    ignored = []
    for kind, value in re.findall(r"(?m)^# (file|ignore|target): (.*)$", text):
        if kind == "target":
            changed["target"] = value
        elif kind == "ignore":
            ignored.append(value)
        elif " = " in value:
            path, _, length = value.partition(" = ")
            make(top, path, size=int(length) if length.isdecimal() else Size.parse(length).bytes)
        else:
            path, _, content = value.partition(" : ")
            make(top, path)
            (top / path).write_text(content.replace("\\n", "\n"))
    if ignored != ["none"]:
        (top / ".dockerignore").write_text("\n".join(ignored or IGNORED) + "\n")
    (top / "Dockerfile").write_text(text)
    return review(options(top, hadolint=False, **changed), text.encode(), str(top / "Dockerfile"))


def expected(text: str, kind: str) -> set[tuple[str, int]]:
    """Return the rules that the comments name, each with the line of the next instruction."""
    found, waiting = set(), []
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(rf"# {kind}: (.*)", line):
            waiting += match[1].split()
        elif waiting and line and not line.startswith("#"):
            found |= {(re.split("[/=]", rule)[0], number) for rule in waiting}
            waiting = []
    assert not waiting
    return found


def details(text: str, sign: str) -> set[tuple[str, int]]:
    """Return what the comments say of the level or the size of a finding, each with the line of the next instruction."""
    found, waiting = set(), []
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match("# expect: (.*)", line):
            waiting += [word for word in match[1].split() if sign in word]
        elif line and not line.startswith("#"):
            found |= {(word, number) for word in waiting}
            waiting = []
    return found


def next_instruction(text: str, line: int) -> int:
    """Return the line of the first instruction from a line on: a finding about a waiver is at its comment."""
    lines = text.splitlines()
    return next(number for number in range(line, len(lines) + 1) if not lines[number - 1].startswith("#"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name.removesuffix(".Dockerfile"))
def test_exactly_what_is_expected_is_found(path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    result = reviewed(tmp_path, text)
    found = [(each.rule, next_instruction(text, each.line)) for each in result.open]
    assert sorted(found) == sorted(expected(text, "expect"))
    assert {(each.rule, each.line) for each in result.allowed} == expected(text, "allowed")
    places = [(each, next_instruction(text, each.line)) for each in result.open]
    assert details(text, "/") <= {(f"{each.rule}/{each.level}", line) for each, line in places}
    assert details(text, "=") <= {
        (f"{each.rule}={size(each.bytes or 0)}".replace(" ", ""), line) for each, line in places
    }


HEAD = "FROM python:3.12-slim@sha256:0\n"


@pytest.mark.parametrize(
    ("text", "rule", "instead"),
    [
        (
            "# file: package.json : {}\n# file: yarn.lock : x\nCOPY . .\nRUN yarn install --frozen-lockfile && yarn build\nCMD x",
            "copy-before-install",
            "COPY package.json yarn.lock ./\nRUN yarn install --frozen-lockfile\nCOPY . .",
        ),
        (
            "# file: a/b = 5M\nCOPY --link a /app\nRUN chown -R me:us /app\nCMD x",
            "copied-layer",
            "COPY --chown=me:us --link a /app",
        ),
        (
            "# file: debs/b.deb = 5M\nCOPY debs /tmp/debs/\nRUN dpkg -i /tmp/debs/* && rm -r /tmp/debs\nCMD x",
            "deleted-later",
            "RUN --mount=type=bind,source=debs,target=/tmp/debs dpkg -i /tmp/debs/* \\\n    && rm -r /tmp/debs",
        ),
        (
            "RUN apt-get install -y gcc=4:12 libpq5 g++ && pip install --no-cache-dir x\nCMD x",
            "toolchain-in-image",
            "RUN apt-get install -y libpq5 \\\n    && pip install --no-cache-dir x",
        ),
        (
            "RUN apt-get install -y gcc\nRUN npm ci --cache /x\nCMD x",
            "single-stage",
            "FROM python:3.12-slim@sha256:0 AS builder\nRUN apt-get install -y gcc\n# … the RUN that build\n"
            "FROM python:3.12-slim@sha256:0\nCOPY --from=builder /app/node_modules /app/node_modules",
        ),
        (
            "RUN apt-get install -y gcc\nRUN pip install --no-cache-dir x\nCMD x",
            "toolchain-in-image",
            "FROM python:3.12-slim@sha256:0 AS builder\nRUN apt-get install -y gcc\nRUN python3 -m venv /opt/venv\n"
            "ENV PATH=/opt/venv/bin:$PATH\n# … pip install …\nFROM python:3.12-slim@sha256:0\n"
            "COPY --from=builder /opt/venv /opt/venv\nENV PATH=/opt/venv/bin:$PATH",
        ),
        (
            "RUN pip install --no-cache-dir torch==2.4\nRUN pip install --no-cache-dir f5-tts 'x>1'\nCMD x",
            "split-install",
            "RUN --mount=type=cache,target=/root/.cache/pip \\\n    pip install --no-cache-dir torch==2.4 f5-tts 'x>1'",
        ),
        (
            "# ignore: none\n# file: .git/x = 10\nCOPY . .\nCMD x",
            "no-dockerignore",
            "# .dockerignore\n.git",
        ),
        (
            "# ignore: x\n# file: .env : TOKEN=abc\nCOPY . .\nCMD x",
            "secret-copied",
            "# .dockerignore\n.env\n# Dockerfile\nRUN --mount=type=secret,id=env COMMAND",
        ),
        (
            "RUN ollama pull x\nCMD x",
            "model-download",
            "ENV OLLAMA_MODELS=/models\n# docker run -v models_cache:/models …",
        ),
        (
            "RUN <<EOF\napt-get update\nEOF\nCMD x",
            "package-cache",
            "RUN <<EOF\napt-get update\nrm -rf /var/lib/apt/lists/*\nEOF",
        ),
        ("RUN npm ci # x\\\n  && true", "package-cache", ""),
    ],
)
def test_what_is_to_be_written_instead(text: str, rule: str, instead: str, tmp_path: Path) -> None:
    found = {each.rule: each.instead for each in reviewed(tmp_path, HEAD + text + "\n").open}
    assert found.get(rule, "") == instead
