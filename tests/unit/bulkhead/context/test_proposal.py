"""What is proposed for a .dockerignore: junk, and never what the Dockerfile copies by name."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bulkhead.context.junk import Names, escaped
from bulkhead.context.proposal import text_of
from bulkhead.dockerfile import patterns
from bulkhead.dockerfile.context import SENT, Selection, walk
from bulkhead.dockerfile.ignore import IgnoreRules

from .contexts import M, make, proposed, report_of

JUNK = (
    *(".git/objects/pack", "src/__pycache__/a.pyc", ".venv/pyvenv.cfg", ".venv/lib/x.py", "web/node_modules/a/b.js"),
    *(".pytest_cache/v", ".idea/x.xml", "src/.DS_Store", "a.log", ".env", ".aws/credentials"),
)


def test_junk_is_proposed_with_what_it_saves(tmp_path: Path) -> None:
    make(tmp_path, *JUNK, "src/main.py", size=1000)
    report = report_of(tmp_path, "FROM a\nCOPY . .\nRUN npm ci && uv sync\n")
    saved = {line.text: (line.files, line.bytes) for line in report.proposal.lines}
    assert saved == {
        ".git": (1, 1000),
        "**/__pycache__": (1, 1000),
        ".venv": (2, 2000),
        "**/node_modules": (1, 1000),
        "**/.pytest_cache": (1, 1000),
        "**/.idea": (1, 1000),
        "**/.DS_Store": (1, 1000),
        "**/*.log": (1, 1000),
        "**/.env": (1, 1000),
        "**/.aws": (1, 1000),
    }
    assert [line for line, is_doubtful in proposed(report).items() if is_doubtful] == ["**/.aws", "**/.env"]


@pytest.mark.parametrize(
    ("dockerfile", "path", "line"),
    [
        ("COPY . .", "dist/app.js", "dist"),
        ("COPY dist /app", "dist/app.js", None),
        ("COPY dist/app.js /app", "dist/app.js", None),
        ("COPY . .\nCOPY dist/*.js /app", "dist/app.js", None),
        ("COPY d?st /app", "dist/app.js", None),
        ("COPY */app.js /app", "dist/app.js", None),
        ("COPY * /app", "dist/app.js", "dist"),
        ("COPY . .\nFROM b\nADD ./dist /app", "dist/app.js", None),
        ("COPY . .\nRUN --mount=type=bind,source=.git,target=/g x", ".git/HEAD", None),
        ("COPY . .\nRUN --mount=type=bind,source=.git/HEAD,target=/g x", ".git/HEAD", None),
        ("COPY .env /app/.env", ".env", None),
        ("COPY .env* /app/", ".env", None),
        ("COPY app /app", "app/__pycache__/a.pyc", "**/__pycache__"),
        ("COPY app/__pycache__ /app", "app/__pycache__/a.pyc", None),
        ("COPY **/node_modules /app", "web/node_modules/x", None),
        ("COPY packages/*/dist /app", "packages/a/dist/x", None),
        ("COPY packages /app", "packages/a/dist/x", None),
        ("COPY models /models", "models/a.safetensors", None),
        ("COPY . /app", "models/a.safetensors", "models/*.safetensors"),
        ("COPY data/*.csv /data", "data/a.csv", None),
        ("COPY . /app", "data/a.csv", "data"),
        ("COPY . /app", "assets/a.csv", "assets/*.csv"),
        ("COPY keys/id_rsa /x", "keys/id_rsa", None),
        ("COPY . /app", "keys/id_rsa", "**/id_rsa"),
        ("ARG D=dist\nCOPY . .\nCOPY ${D} /app", "dist/app.js", None),
        ("COPY . .\nONBUILD COPY dist /x", "dist/app.js", "dist"),
        ("COPY . .\nONBUILD COPY dist /x\nFROM a", "dist/app.js", None),
        ("COPY logs /logs", "logs/a.log", None),
        ("COPY . .", "logs/a.log", "**/*.log"),
        ("COPY logs/* /logs", "logs/a.log", None),
        ("COPY --parents logs/** /logs", "logs/a.log", None),
        ("COPY packages/* /app", "packages/dist/x", None),
    ],
)
def test_what_is_copied_by_name_is_never_proposed(tmp_path: Path, dockerfile: str, path: str, line: str | None) -> None:
    make(tmp_path, path, size=2 * M)
    for manifest in ("package.json", "packages/a/package.json"):
        make(tmp_path, manifest)
    lines = proposed(report_of(tmp_path, f"FROM scratch AS a\n{dockerfile}\n"))
    assert [*lines] == ([line] if line else [])


def test_what_is_copied_through_a_link_is_never_proposed(tmp_path: Path) -> None:
    make(tmp_path, "dist/app.js", "node_modules/a/b.js", "package.json")
    (tmp_path / "current").symlink_to("dist")
    (tmp_path / "lib").symlink_to("node_modules/a")
    run = "RUN npm ci && npm run build"
    assert [*proposed(report_of(tmp_path, f"FROM a\nCOPY . .\n{run}\n"))] == ["**/node_modules", "dist"]
    assert [*proposed(report_of(tmp_path, f"FROM a\nCOPY . .\nCOPY current lib /app/\n{run}\n"))] == []


def test_line_that_would_also_take_out_something_else_is_not_proposed(tmp_path: Path) -> None:
    make(tmp_path, "a.log", "b/c.log/keep.txt", "x/.env", "y/.env/keep.txt", "z/node_modules", "web/node_modules/q")
    make(tmp_path, "one/__pycache__/a.pyc", "two/__pycache__/b.pyc")
    lines = proposed(report_of(tmp_path, "FROM a\nCOPY . .\nCOPY one/__pycache__ /x\nRUN npm ci\n"))
    assert lines == {}


def test_certain_lines_are_safe_within_what_an_image_may_need(tmp_path: Path) -> None:
    make(tmp_path, "node_modules/a/x.log/keep.js", "b.log", "node_modules/a/.DS_Store", "node_modules/a/b.js")
    report = report_of(tmp_path)
    assert [(line.text, line.files, bool(line.doubt)) for line in report.proposal.lines] == [
        ("**/node_modules", 2, True),
        ("**/.DS_Store", 1, False),
    ]


def test_what_is_in_a_directory_of_junk_that_is_copied_by_name_stays(tmp_path: Path) -> None:
    make(tmp_path, "node_modules/a/.idea/x", "node_modules/a/b.js", "main.js")
    assert proposed(report_of(tmp_path, "FROM a\nCOPY . .\nCOPY node_modules /app\n")) == {}


def test_path_that_no_line_can_name_is_not_proposed(tmp_path: Path) -> None:
    (tmp_path / "package.json").touch()
    for name in ("new\nline", " leading"):
        make(tmp_path, f"{name}/package.json", f"{name}/dist/a", f"{name}/big.csv", size=2 * M)
    make(tmp_path, "sub/dist/a", "sub/package.json")
    assert [*proposed(report_of(tmp_path, "FROM a\nCOPY . .\nRUN make\n"))] == ["sub/dist"]


def test_what_an_exception_brings_back_is_not_proposed(tmp_path: Path) -> None:
    make(tmp_path, ".env", "src/__pycache__/a.pyc", "dist/x", "package.json", "src/deep/a.log")
    for source in ("src", "src/**"):
        report = report_of(
            tmp_path, "FROM a\nCOPY . .\nRUN npm run build\n", f"*\n!{source}\n!.env\n!dist\n!package.json\n"
        )
        assert [*proposed(report)] == ["**/__pycache__"]


@pytest.mark.parametrize(
    ("run", "path", "is_doubtful"),
    [
        ("x", "node_modules/a", True),
        ("npm ci", "node_modules/a", False),
        ("--mount=type=cache,target=/c pnpm install", "node_modules/a", False),
        ("<<EOF\nyarn\nEOF", "node_modules/a", False),
        ("npm run build", "node_modules/a", True),
        ("npm install -g pm2", "node_modules/a", True),
        ("apk add --no-cache npm yarn", "node_modules/a", True),
        ("corepack enable pnpm && pnpm i --frozen-lockfile", "node_modules/a", False),
        ("if [ -f yarn.lock ]; then yarn --frozen-lockfile; fi", "node_modules/a", False),
        ("cd web && NODE_ENV=production npm --prefix . ci", "node_modules/a", False),
        ("bash -c 'npm ci'", "node_modules/a", False),
        ("x", "dist/a", True),
        ("npm run build", "dist/a", False),
        ("pnpm -r build", "dist/a", False),
        ("yarn run web:build", "dist/a", False),
        ("npx vite build", "dist/a", False),
        ("make", "dist/a", False),
        ("python3 -m build", "dist/a", False),
        ("npm install --omit=dev", "dist/a", True),
        ("apt-get install -y build-essential make", "dist/a", True),
        ("--mount=type=bind,source=package.json,target=package.json npm ci", "dist/a", True),
        ("pip install --upgrade wheel && pip install .", "build/a", True),
        ("go build -o /app .", "build/a", True),
        ("./gradlew --no-daemon bootJar", "build/a", False),
        ("cmake -B build && cmake --build build", "build/a", False),
        ("npm run build", "target/a", True),
        ("mvn -B dependency:go-offline", "target/a", True),
        ("--mount=type=cache,target=/root/.m2 ./mvnw -B package", "target/a", False),
        ("cargo build --release", "target/a", False),
        ("x", ".git/HEAD", False),
        ("git clone https://example.org/x", ".git/HEAD", False),
        ("apt-get install -y git curl", ".git/HEAD", False),
        ("git describe --tags >version", ".git/HEAD", True),
        ("git -C /src rev-parse HEAD >version", ".git/HEAD", True),
        ("pip install setuptools_scm .", ".git/HEAD", True),
        ("x", ".env", True),
        ("x", "sub/id_rsa", True),
        ("x", "venv/pyvenv.cfg", True),
        ("python -m venv venv", "venv/pyvenv.cfg", False),
        ("anything", "models/a.pt", True),
        ("anything", "data/a.csv", True),
    ],
)
def test_what_an_image_may_need_is_proposed_only_as_a_comment(
    tmp_path: Path, run: str, path: str, is_doubtful: bool
) -> None:
    make(tmp_path, path, size=2 * M)
    make(tmp_path, "package.json")
    report = report_of(tmp_path, f"FROM a\nCOPY . .\nRUN {run}\n")
    assert [*proposed(report).values()] == [is_doubtful]
    (line,) = report.proposal.lines
    written = text_of(b"", report.proposal, takes_all=False).decode().splitlines()
    assert (f"# {line.text}" if is_doubtful else line.text) in written
    assert line.text in text_of(b"", report.proposal, takes_all=True).decode().splitlines()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("pyproject.toml", '[build-system]\nrequires = ["setuptools-scm>=8"]\n'),
        ("Makefile", "VERSION := $(shell git describe --tags --always)\n"),
        ("pom.xml", "<artifactId>git-commit-id-maven-plugin</artifactId>\n"),
    ],
)
def test_history_stays_where_the_build_reads_its_version_from_it(tmp_path: Path, file: str, content: str) -> None:
    make(tmp_path, ".git/HEAD")
    (tmp_path / file).write_text("url = https://host/a.git\n")
    assert proposed(report_of(tmp_path)) == {".git": False}
    (tmp_path / file).write_text(content)
    assert proposed(report_of(tmp_path)) == {".git": True}


def test_names_that_only_look_like_junk_stay(tmp_path: Path) -> None:
    make(tmp_path, "env/settings.py", "src/dist/geometry.py", "src/data/table.csv", "small.csv", "src/build.py", "a.pt")
    assert proposed(report_of(tmp_path)) == {}


def test_path_that_only_the_base_image_knows_forbids_every_proposal(tmp_path: Path) -> None:
    make(tmp_path, ".git/HEAD")
    report = report_of(tmp_path, "FROM a\nCOPY . .\nCOPY $APP_HOME/x /x\n")
    assert report.proposal.lines == ()
    assert report.proposal.obstacle == (
        "line 3 of the Dockerfile copies a path with APP_HOME, which only the base image can have set"
    )


def test_what_is_not_sent_anyway_is_not_proposed(tmp_path: Path) -> None:
    make(tmp_path, ".git/HEAD", "src/a", "src/__pycache__/a.pyc", "old/__pycache__/b.pyc")
    report = report_of(tmp_path, "FROM a\nCOPY src /src\n")
    assert [(line.text, line.files) for line in report.proposal.lines] == [("**/__pycache__", 1)]
    assert proposed(report_of(tmp_path, ignore="**/__pycache__\n.git\n")) == {}


# -- what is written


def test_lines_are_added_after_what_is_there(tmp_path: Path) -> None:
    make(tmp_path, ".git/HEAD", "a.log")
    proposal = report_of(tmp_path).proposal
    expected = (
        "# mine\n*.tmp\n\n# Proposed by `bulkhead context`: no image needs what these lines name.\n**/*.log\n.git\n"
    )
    assert text_of(b"# mine\n*.tmp\n", proposal, takes_all=False).decode() == expected
    assert text_of(b"# mine\n*.tmp", proposal, takes_all=False).decode() == expected
    assert text_of(b"", proposal, takes_all=False).decode() == expected.partition("\n\n")[2]
    assert text_of(b"a\r\n", proposal, takes_all=False).decode().count("\r\n") == 5
    assert text_of(expected.encode(), proposal, takes_all=False).decode() == expected, "nothing twice"
    assert text_of(b"caf\xe9\n", proposal, takes_all=False).startswith(b"caf\xe9\n")


def test_proposed_lines_take_out_junk_and_nothing_else(tmp_path: Path) -> None:
    """For made-up contexts: with the proposed file, everything that is copied by name is still sent."""
    dice = random.Random(3)
    directories = ["src", "dist", "node_modules", "__pycache__", "data", "models", "build", "[x] y"]
    files = ["a.log", "x.py", "b.pt", ".env", "c.pyc"]
    sources = [".", "src", "dist", "*.log", "src/dist", "*/data", "models/b.pt", "build/x.py", ".env", "**/dist"]
    kept = saved = 0
    for number in range(60):
        top = tmp_path / str(number)
        for _ in range(25):
            parts = [dice.choice(directories) for _ in range(dice.choice([0, 1, 1, 2]))]
            make(top, "/".join([*parts, dice.choice(files)]), size=dice.choice([10, 2 * M]))
        make(top, "package.json", "src/package.json")
        named = dice.sample(sources, 3)
        report = report_of(top, "FROM scratch\nCOPY " + " ".join(named) + " /x/\nRUN npm run build\n")
        after = IgnoreRules(patterns.parse(text_of(b"", report.proposal, takes_all=True), "x"))
        rows = {
            entry.path: entry
            for entry in walk(str(top), after, Selection(str(top), report.inputs.paths()), counts_all=True)
        }  # type: ignore[union-attr]
        still_sent = sum(entry.size for entry in rows.values() if entry.fate == SENT)
        expected = report.survey.sent.bytes - sum(line.bytes for line in report.proposal.lines)
        assert still_sent == expected, (named, report.proposal.lines)
        saved += sum(line.bytes for line in report.proposal.lines)
        for source in named:
            pattern = patterns.pattern_of(source)
            for path, entry in rows.items():
                if source != "." and pattern.path(path) and not entry.is_directory:
                    assert entry.fate == SENT, (named, path)
                    kept += 1
    assert kept > 20, kept
    assert saved > 50 * M


@pytest.mark.parametrize(
    ("sources", "path", "is_content", "protected"),
    [
        (["src/dist"], "src/dist", False, True),
        (["src/dist"], "src", False, True),
        (["src"], "src/dist", False, False),
        (["src"], "src/dist", True, True),
        (["*"], "src/dist", True, False),
        ([""], "dist", True, False),
        (["*/dist"], "a/dist", False, True),
        (["*/dist"], "dist", False, False),
        (["**/dist"], "a/b/dist", False, True),
        (["**"], "a/b/dist", True, False),
        (["src/**/*"], "src/dist", True, True),
        (["src/*"], "src/dist", False, False),
        (["a[b]c"], "abc", False, True),
        (["a[b"], "x", False, True),
    ],
)
def test_names_protect_what_they_name(
    tmp_path: Path, sources: list[str], path: str, is_content: bool, protected: bool
) -> None:
    assert Names(str(tmp_path), sources).protects(path, is_content) is protected


@pytest.mark.parametrize("path", ["a*b", "a?", "[x]", "#a", "!a", "a\\b", "plain/path", "a|b/*c", "a{2}*"])
def test_path_becomes_a_line_that_means_it_alone(path: str) -> None:
    (pattern,) = patterns.parse(escaped(path).encode(), "x")
    assert pattern.path(path)
    assert not pattern.is_exception
    assert not pattern.path("axb") or path == "axb"
