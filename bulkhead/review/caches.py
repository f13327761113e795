"""Rules about what package managers keep."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.review.instead import replaced, with_end, with_mount
from bulkhead.review.model import WARNING, Rule
from bulkhead.review.packages import SYSTEM, brings_torch, is_pip_install, line_of, python_packages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulkhead.review.model import Image, ImageFinding, Layer
    from bulkhead.review.shell import Call

_TORCH = 2_900_000_000  # bytes of the wheels of PyTorch and CUDA, 2.7 GiB
_LISTS = 20 * 2**20  # bytes of apt's package lists
_PLACES = re.compile(r"\w*(CACHE|STORE)\w*|CARGO_HOME|PNPM_HOME|GOPATH|GOMODCACHE", re.IGNORECASE)  # variables
_TOOLS_OF_PIP = {"pip", "setuptools", "wheel"}  # a few megabytes


class Manager(NamedTuple):
    """A package manager, and how its cache stays out of an image."""

    name: str
    calls: str  # commands that fill the cache; a regular expression for a command and its arguments without options
    mount: str  # directories of the cache, separated by a space
    known: str  # what a mount for it is called; a regular expression
    flags: tuple[str, ...] = ()  # how their names begin
    settings: tuple[str, ...] = ()  # variables that turn it off
    cleaned: str = r"(?!)"  # a command in the same RUN that empties it
    flag: str = ""  # what is written after the verb instead of a mount
    end: str = ""  # the command that is added instead of a mount


MANAGERS = (
    Manager(
        "pip",
        r"pip (install|wheel)",
        "/root/.cache/pip",
        r"pip|\.cache/?$",
        ("--no-cache", "--cache-dir"),
        ("PIP_NO_CACHE_DIR",),
        r"pip cache (purge|remove)|pip config set .*no-cache",
    ),
    Manager(
        "apt",
        r"(apt-get|apt|aptitude) update",
        "/var/lib/apt/lists",
        r"/var/lib/apt|^/var/lib/?$",
        cleaned=r"\b(rm|find)\b.*/var/lib/(apt|\{|\*)|\b(apt-get|apt) dist-?clean\b",
        end="rm -rf /var/lib/apt/lists/*",
    ),
    Manager(
        "apk",
        r"apk add",
        "/var/cache/apk",
        r"/var/cache/apk|/etc/apk/cache|^/var/cache/?$",
        ("--no-cache",),
        cleaned=r"(rm|find) .*(/var/cache|/etc/apk/cache)|apk cache (clean|purge)",
        flag="--no-cache",
    ),
    Manager(
        "dnf",
        r"(dnf|yum|microdnf|tdnf) .*\b(install|groupinstall|update|upgrade)\b",
        "/var/cache/dnf",
        r"/var/cache/(dnf|yum|libdnf5)|^/var/cache/?$",
        cleaned=r"(dnf|yum|microdnf|tdnf) .*clean\b|(rm|find) .*/var/cache",
        end="{name} clean all",
    ),
    Manager(
        "zypper",
        r"zypper .*\b(install|in|update|up|patch)\b",
        "/var/cache/zypp",
        r"/var/cache/zypp|^/var/cache/?$",
        cleaned=r"zypper .*(clean|cc)\b|(rm|find) .*/var/cache",
        end="zypper clean --all",
    ),
    Manager(
        "conda",
        r"(conda|mamba|micromamba) (.* )?(install|create|update)\b",
        "/opt/conda/pkgs",
        r"conda|mamba|pkgs",
        cleaned=r"(conda|mamba|micromamba) .*clean\b|(rm|find) .*(pkgs|conda)",
        end="{name} clean --all --yes",
    ),
    Manager(
        "npm",
        r"npm (ci|install|i|add|clean-install)\b",
        "/root/.npm",
        r"npm|\.cache/?$",
        ("--cache",),
        ("npm_config_cache", "NPM_CONFIG_CACHE"),
        r"npm cache (clean|rm|verify)|(rm|find) .*\.npm",
    ),
    Manager(
        "Yarn",
        r"yarn( install| add|$)",
        "/usr/local/share/.cache/yarn",
        r"yarn|\.cache/?$",
        ("--cache-folder",),
        ("YARN_CACHE_FOLDER",),
        r"yarn cache (clean|rm)|(rm|find) .*\.cache",
    ),
    Manager(
        "pnpm",
        r"pnpm (install|i|add|fetch)\b",
        "/root/.local/share/pnpm/store",
        r"pnpm|\.cache/?$",
        ("--store-dir",),
        cleaned=r"pnpm store prune|(rm|find) .*(pnpm|store)",
    ),
    Manager(
        "uv",
        r"uv (sync|pip install|add|tool install)\b",
        "/root/.cache/uv",
        r"\buv\b|\.cache/?$",
        ("--no-cache", "-n", "--cache-dir"),
        ("UV_NO_CACHE",),
        r"uv cache (clean|prune)",
    ),
    Manager(
        "Poetry",
        r"poetry (install|add|update|sync)\b",
        "/root/.cache/pypoetry",
        r"poetry|\.cache/?$",
        ("--no-cache",),
        ("POETRY_NO_CACHE",),
        r"poetry cache clear|(rm|find) .*(poetry|POETRY)",
    ),
    Manager(
        "cargo",
        r"cargo (build|install|fetch|test)\b",
        "/usr/local/cargo/registry",
        r"cargo",
        cleaned=r"(rm|find) .*(cargo|CARGO)|cargo clean",
    ),
    Manager(
        "Go",
        r"go (build|install|get|mod download|test)\b",
        "/go/pkg/mod /root/.cache/go-build",
        r"/go\b|go-build|\.cache/?$",
        cleaned=r"go clean .*cache|(rm|find) .*(/go|go-build)",
    ),
)


def package_cache(image: Image) -> Iterator[ImageFinding]:
    """Find package managers whose cache stays in a layer."""
    for layer in image.named("RUN"):
        lines = [line_of(call) for call in layer.calls]
        for manager in MANAGERS:
            filling = (call for call in layer.calls if call.is_certain and _fills(manager, call))
            calls = [call for call in filling if not _is_kept_out(manager, call, layer)]
            if calls and not _cleans(manager, lines):
                yield from _found(manager, calls[0], layer, image)


def _fills(manager: Manager, call: Call) -> bool:
    words = " ".join((call.name, *call.operands))
    return bool(re.match(manager.calls, words)) and not call.has("--help", "--version", "--dry-run", "--download-only")


def _cleans(manager: Manager, lines: list[str]) -> bool:
    home = r"\b(rm|find)\b.*(\.cache|/root/?$|/tmp/\*)" if manager.name not in SYSTEM else r"(?!)"
    return any(re.search(f"{manager.cleaned}|{home}", line) for line in lines)


def _is_kept_out(manager: Manager, call: Call, layer: Layer) -> bool:
    if any(word.startswith(flag) for flag in manager.flags for word in call.words):
        return True
    variables = {**layer.variables, **call.settings}
    if any(variables.get(name) for name in manager.settings):
        return True
    places = {value.rstrip("/") for name, value in variables.items() if _PLACES.fullmatch(name) and value}
    return any(re.search(manager.known, place) or place.rstrip("/") in places for place in layer.caches)


def _found(manager: Manager, call: Call, layer: Layer, image: Image) -> Iterator[ImageFinding]:
    bytes_kept = None
    if manager.name == "apt":
        bytes_kept = _LISTS
    elif manager.name in ("pip", "uv") and is_pip_install(call):
        packages = [*python_packages(call, layer, image)]
        if packages and set(packages) <= _TOOLS_OF_PIP:
            return
        if any(map(brings_torch, packages)) and not _has_torch(layer, image) and "/cpu" not in line_of(call):
            bytes_kept = _TORCH
    elif manager.name == "Yarn" and _is_modern_yarn(image):
        return
    what, it = (
        ("apt's package lists stay", "them") if manager.name == "apt" else (f"The cache of {manager.name} stays", "it")
    )
    yield RULES[0].finding(
        layer.instruction,
        f"{what} in this layer, even if a later RUN removes {it}",
        bytes=bytes_kept,
        instead=_instead(manager, call, layer),
    )


def _instead(manager: Manager, call: Call, layer: Layer) -> str:
    if manager.flag:
        return replaced(layer.instruction, r"\bapk add\b", f"apk add {manager.flag}")
    if manager.end:
        return with_end(layer.instruction, manager.end.format(name=call.name))
    return with_mount(layer.instruction, manager.mount)


def _has_torch(layer: Layer, image: Image) -> bool:
    """Return whether an earlier layer has installed PyTorch."""
    earlier = image.layers[: image.layers.index(layer)]
    return any(
        brings_torch(package)
        for each in earlier
        for call in each.calls
        if is_pip_install(call)
        for package in python_packages(call, each, image)
    )


def _is_modern_yarn(image: Image) -> bool:
    """Return whether Yarn is one that links packages out of its cache: Yarn 2 and later."""
    return any(os.path.exists(os.path.join(image.context, name)) for name in (".yarnrc.yml", ".pnp.cjs", ".yarn"))


RULES = (
    Rule(
        "package-cache",
        WARNING,
        "A package manager's cache stays in the image",
        package_cache,
        same=("DL3009", "DL3019", "DL3032", "DL3036", "DL3040", "DL3042", "DL3060"),
    ),
)
