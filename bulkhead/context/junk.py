"""What contexts often have and images seldom need."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.dockerfile import patterns
from bulkhead.dockerfile.context import content_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bulkhead.dockerfile.stages import BuildInputs

MODELS = (".safetensors", ".ckpt", ".pt", ".pth", ".onnx", ".gguf", ".ggml", ".h5", ".keras", ".tflite")  # suffixes
_LARGE = 2**20  # bytes
_NOTHING = "(?!)"  # matches no RUN
# Where a command of a RUN begins, and what else it can have. What is not understood makes nothing: then the image may need it.
_AT = r"(?:^|[&;|(\"']|\b(?:(?i:RUN)|then|do|else)\s)\s*(?:--\S+\s+|\w+=\S+\s+)*(?:[\w./~${}-]*/)?"
_REST = r"\b[^&;|\n]*\s"
_NODE = (
    rf"{_AT}(?:(?:npm|pnpm|bun)\b(?!{_REST}(?:-g|--global)\b){_REST}(?:ci|i|install|add|clean-install)\b|"
    r"yarn(?:\s+(?:install|--(?!cwd)\S+)|\s*(?:$|[&;|)])))"
)
_SCRIPT = (
    rf"{_AT}(?:npm|npx|pnpm|yarn|bun|turbo|nx|ng|next|nuxt|vite|astro)\b(?!{_REST}(?:ci|i|install|add)\b){_REST}"
    r"(?:\S+:)?(?:build|compile|generate|export|bundle|tsc|webpack|vite|rollup|esbuild)\b"
)
_MAKE = rf"{_AT}(?:make|ninja|tsc|webpack|rollup|esbuild|cmake\s+--build)\b"
_WHEEL = rf"{_AT}(?:python[\d.]*\s+(?:-m\s+build|setup\.py)|(?:poetry|uv|hatch|flit|pdm)\s+build)\b"
_GRADLE = rf"{_AT}gradlew?\b{_REST}:?(?:\w+:)*(?:build|assemble|install\w*|dist\w+|\w*jar|\w*Jar|\w*war)\b"
_TARGET = rf"{_AT}(?:cargo|sbt|mvnw?\b{_REST}(?:compile|package|verify|install|deploy))\b"
# What asks git for something: a RUN itself, or what it builds with.
_GIT = (
    r"\bgit(?:\s+-\S+(?:\s+[^-\s]\S*)?)*?\s+(?:describe|rev-parse|rev-list|name-rev|symbolic-ref|log|show|status|branch|"
    r"submodule|ls-files|archive)\b|\b(?:setuptools.scm|hatch.vcs|versioneer|dunamai|versioningit|"
    r"poetry-dynamic-versioning|git-commit-id|gradle-git-properties|git-version|vergen)\b"
)
_MANIFESTS = (
    *("package.json", "pyproject.toml", "setup.py", "Cargo.toml", "pom.xml", "build.gradle", "build.gradle.kts"),
    *("CMakeLists.txt", "Makefile", "build.sbt", "go.mod"),
)
_BUILD_FILES = (*_MANIFESTS, "setup.cfg", "build.rs")  # that can ask git for the version


class Kind(NamedTuple):
    """A kind of junk."""

    name: str
    directories: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    is_content: bool = (
        False  # it can be what the image is for: never proposed within a directory that is copied by name
    )
    is_placed: bool = False  # a line names its place, and not every entry of its name
    needs_size: bool = False  # small files do not count: they may be the program's own
    made_by: str = ""  # a RUN that makes it anew; without one, the image may need it
    spoilt_by: str = ""  # a RUN, or a file that it builds with, that may need it
    doubt: str = ""  # why the image may need it


KINDS = (
    Kind(
        "version control",
        directories=(".git", ".hg", ".svn"),
        is_placed=True,
        spoilt_by=_GIT,
        doubt="a RUN, or what it builds with, asks git for something",
    ),
    Kind("Python bytecode", directories=("__pycache__",)),
    Kind("Python bytecode", suffixes=(".pyc", ".pyo"), is_content=True),
    Kind(
        "Python's virtual environment",
        directories=(".venv", "venv", "env"),
        is_placed=True,
        made_by=r"venv|virtualenv|\buv\b|\bpoetry\b|\bpdm\b|\bpip\b|\bconda\b",
        doubt="no RUN makes it anew",
    ),
    Kind(
        "caches of tools",
        directories=(
            *(".pytest_cache", ".mypy_cache", ".ruff_cache", ".tox", ".nox", ".hypothesis", ".ipynb_checkpoints"),
            *(".eggs", ".gradle", ".terraform", ".nyc_output", ".parcel-cache", ".turbo", ".sass-cache", "htmlcov"),
        ),
        files=(".coverage", ".eslintcache"),
        suffixes=(".tsbuildinfo",),
    ),
    Kind("packages of Node", directories=("node_modules",), made_by=_NODE, doubt="no RUN installs them"),
    Kind(
        "editors and desktops",
        directories=(".idea", ".vscode", ".vs"),
        files=(".DS_Store", "Thumbs.db", "desktop.ini"),
        suffixes=(".swp", ".swo"),
    ),
    Kind("logs", suffixes=(".log",), is_content=True),
    Kind(
        "secrets",
        directories=(".aws", ".ssh", ".gnupg"),
        files=(".env", ".netrc", ".git-credentials", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"),
        is_content=True,
        made_by=_NOTHING,
        doubt="a RUN or the program may read it. Better pass it with --mount=type=secret, or at run time",
    ),
    *(
        Kind(
            "outputs of builds",
            directories=directories,
            is_placed=True,
            is_content=True,
            made_by=made_by,
            doubt="no RUN makes it anew",
        )
        for directories, made_by in (
            (("dist", "out", ".next", ".nuxt", ".svelte-kit"), f"{_SCRIPT}|{_MAKE}|{_WHEEL}"),
            (("build",), f"{_SCRIPT}|{_MAKE}|{_WHEEL}|{_GRADLE}"),
            (("target",), _TARGET),
        )
    ),
    Kind(
        "models",
        suffixes=MODELS,
        is_placed=True,
        is_content=True,
        made_by=_NOTHING,
        needs_size=True,
        doubt="the program may load it from the image. Better mount a volume at run time",
    ),
    Kind(
        "local data",
        directories=("datasets", "data"),
        suffixes=(
            *(".csv", ".tsv", ".parquet", ".arrow", ".feather", ".npy", ".npz", ".sqlite", ".sqlite3", ".db", ".dump"),
            *(
                ".wav",
                ".flac",
                ".mp3",
                ".mp4",
                ".mkv",
                ".avi",
                ".zip",
                ".tar",
                ".tgz",
                ".gz",
                ".bz2",
                ".xz",
                ".zst",
                ".7z",
            ),
        ),
        is_placed=True,
        is_content=True,
        made_by=_NOTHING,
        needs_size=True,
        doubt="the program may read it from the image",
    ),
)

_DIRECTORIES = {name: kind for kind in KINDS for name in kind.directories}
_FILES = {name: kind for kind in KINDS for name in kind.files}
_SUFFIXES = {suffix: kind for kind in KINDS for suffix in kind.suffixes}
NAMES = {*_DIRECTORIES, *_FILES, *_SUFFIXES}  # of junk, and its suffixes


class Junk(NamedTuple):
    """A line for a .dockerignore."""

    kind: Kind
    line: str
    is_reason: bool = True  # whether it is large enough to be a reason for the line


def find(context: str, path: str, name: str, is_directory: bool, size: int, suffix: str) -> Junk | None:
    """Return the junk that an entry of a context is; None if it is none.

    Args:
        path: from the top of the context.
        size: of a file, in bytes.
        suffix: of the name, in lower case, with its dot; empty: it has none.
    """
    kind = _DIRECTORIES.get(name) if is_directory else _FILES.get(name) or _SUFFIXES.get(suffix)
    # What a .dockerignore cannot name, or not in UTF-8, stays.
    if not kind or not path.isprintable() or path != path.strip():
        return None
    if is_directory:
        if not _is_junk(kind, context, path):
            return None
        return Junk(kind, escaped(path) if kind.is_placed else f"**/{name}")
    if name in _FILES:
        return Junk(kind, f"**/{name}")
    is_reason = size >= _LARGE or not kind.needs_size
    if not name.endswith(suffix):
        return Junk(kind, escaped(path), is_reason)  # patterns know no case
    place = escaped(path[: len(path) - len(name)]) if kind.is_placed else "**/"
    return Junk(kind, f"{place}*{suffix}", is_reason)


def clash(path: str, name: str, is_directory: bool) -> str:
    """Return the line that would take out an entry that is no junk, for its name is that of junk; empty: none would.

    A file can be called node_modules, and a directory x.log.
    """
    if not is_directory:
        kind = _DIRECTORIES.get(name)
        return f"**/{name}" if kind and not kind.is_placed else ""
    if name in _FILES:
        return f"**/{name}"
    dot = name.rfind(".")
    suffix = name[dot:] if dot > 0 else ""
    kind = _SUFFIXES.get(suffix)
    place = escaped(path[: len(path) - len(name)]) if kind and kind.is_placed else "**/"
    return f"{place}*{suffix}" if kind else ""


def escaped(path: str) -> str:
    r"""Return a path as a pattern that matches nothing else.

    >>> escaped("a[1]*")
    'a\\[1\\]\\*'
    """
    return re.sub(r"^[#!]|[\\*?\[\]|{}]", r"\\\g<0>", path)


def _is_junk(kind: Kind, context: str, path: str) -> bool:
    """Return whether a directory of a name that tells is what the name says."""
    whole = os.path.join(context, path)
    if kind.name == "Python's virtual environment":
        return os.path.exists(os.path.join(whole, "pyvenv.cfg"))
    if kind.name == "outputs of builds":
        return any(os.path.exists(os.path.join(os.path.dirname(whole), name)) for name in _MANIFESTS)
    return kind.name != "local data" or "/" not in path


def is_doubtful(kind: Kind, context: str, inputs: BuildInputs | None) -> bool:
    """Return whether an image may need junk of a kind, by what the Dockerfile runs, and by what that builds with."""
    steps = [each for each in inputs.all_instructions if each.name == "RUN"] if inputs else []
    texts = [part for each in steps for part in (each.text, *(heredoc.content for heredoc in each.heredocs))]
    if kind.spoilt_by:
        files = (content_of(os.path.join(context, name)) or b"" for name in _BUILD_FILES)
        if any(
            re.search(kind.spoilt_by, text) for text in (*texts, *(each.decode(errors="replace") for each in files))
        ):
            return True
    return bool(kind.made_by) and not any(re.search(kind.made_by, text, re.MULTILINE) for text in texts)


class Names:
    """What a Dockerfile copies by name, and what a .dockerignore names in its exceptions: it never becomes junk.

    Args:
        context: the directory.
        sources: paths from its top, with wildcards; those that mean the whole context name nothing.
    """

    def __init__(self, context: str, sources: Iterable[str]) -> None:
        self._context = context
        # `dir/*` and `dir/**` name what `dir` names.
        self._sources = [
            parts for source in sources if (parts := [*filter(None, re.sub(r"(^|/)[*/]+$", "", source).split("/"))])
        ]

    def protects(self, path: str, is_content: bool) -> bool:
        """Return whether an entry is named, or something within it.

        Args:
            is_content: whether it is also protected where only a directory that it is in is named.
        """
        parts = path.split("/")
        return any(self._names(source, parts) or (is_content and _holds(source, parts)) for source in self._sources)

    def _names(self, source: list[str], parts: list[str]) -> bool:
        if any("**" in part for part in source):
            # Anywhere: a part that says more than a star decides.
            return any(_says(part) and _matches(part, parts[-1]) for part in source)
        if len(source) < len(parts) or not all(map(_matches, source, parts)):
            return False
        if _says(source[len(parts) - 1]):
            return True
        rest = source[len(parts) :]
        return any(map(_says, rest)) and _exists(os.path.join(self._context, *parts), rest)


def _exists(directory: str, parts: list[str]) -> bool:
    """Return whether a directory has something that the parts of a source match."""
    try:
        names = [name for name in os.listdir(directory) if _matches(parts[0], name)]
    except OSError:  # it is no directory, or cannot be read
        return False
    return any(not parts[1:] or _exists(os.path.join(directory, name), parts[1:]) for name in names)


def _holds(source: list[str], parts: list[str]) -> bool:
    return len(source) < len(parts) and all(map(_matches, source, parts)) and any(map(_says, source))


def _says(part: str) -> bool:
    return bool(part.strip("*"))


def _matches(pattern: str, part: str) -> bool:
    if not re.search(r"[*?\[\\]", pattern):
        return pattern == part
    try:
        return patterns.pattern_of(pattern).path(part)
    except patterns.PatternError:
        return True  # Docker will say what is wrong with it
