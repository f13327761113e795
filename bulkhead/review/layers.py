"""Rules about layers that keep what a later one removes, that are stored twice, or that are made anew too often."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.review.instead import replaced
from bulkhead.review.model import WARNING, Rule, below
from bulkhead.review.packages import brings_torch, is_pip_install, line_of, python_packages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulkhead.review.model import Image, ImageFinding, Layer
    from bulkhead.review.shell import Call

_SMALL = 2**20  # bytes that are not worth a finding


class Installer(NamedTuple):
    """What installs the dependencies of a project."""

    calls: str  # a regular expression for a command and its arguments without options
    files: tuple[str, ...]  # that it needs


INSTALLERS = (
    Installer(r"npm (ci|install|i)$", ("package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc")),
    Installer(r"yarn( install)?$", ("package.json", "yarn.lock", ".yarnrc.yml")),
    Installer(r"pnpm (install|i)$", ("package.json", "pnpm-lock.yaml", "pnpm-workspace.yaml")),
    Installer(r"bun (install|i)$", ("package.json", "bun.lock", "bun.lockb")),
    Installer(r"bundle( install)?$", ("Gemfile", "Gemfile.lock")),
    Installer(r"composer install$", ("composer.json", "composer.lock")),
    Installer(r"go mod download$", ("go.mod", "go.sum")),
    Installer(r"mix deps\.get$", ("mix.exs", "mix.lock")),
    Installer(r"poetry install$", ("pyproject.toml", "poetry.lock")),
    Installer(r"uv sync$", ("pyproject.toml", "uv.lock")),
)


def deleted_later(image: Image) -> Iterator[ImageFinding]:
    """Find files that one layer writes and a later one removes: the first one keeps them."""
    removed: set[int] = set()  # lines that wrote what is removed
    for number, layer in enumerate(image.layers):
        for call in layer.runs("rm"):
            for path in _paths(call.operands, call):
                found = [
                    (earlier, size) for earlier in image.layers[:number] for size in _written(earlier, path, image)
                ]
                new = [(earlier, size) for earlier, size in found if earlier.instruction.line not in removed]
                removed |= {earlier.instruction.line for earlier, _ in found}
                if new:
                    earlier, size = new[0]
                    yield RULES[0].finding(
                        layer.instruction,
                        f"{path} is written in line {earlier.instruction.line}: that layer keeps it. Remove it in the same RUN, or "
                        "mount it",
                        bytes=size,
                        is_measured=size is not None,
                        instead=_mounted(earlier, layer),
                    )
                    break


def _written(layer: Layer, path: str, image: Image) -> Iterator[int | None]:
    """Yield the bytes of what a layer writes at a path or below it, None if they are unknown; nothing if they are few."""
    size = _copied(layer, path, image)
    if size is None or size >= _SMALL:
        yield size
    for call in layer.calls:
        if call.is_certain and call.name in ("wget", "curl", "git"):
            for written in _files(call):
                if below(written, path) and not layer.removes(written):
                    yield None


def _copied(layer: Layer, path: str, image: Image) -> int | None:
    """Return the bytes that a COPY or an ADD writes at a path or below it; None: they are unknown."""
    if not layer.target:
        return 0
    target = os.path.normpath(layer.target)
    inner, has_all = below(path, target), bool(below(target, path))
    if not layer.sources:  # of a stage, an image or an address: a part of it may be small
        return None if has_all else 0
    sources = layer.sources
    if inner and not has_all:
        sources = tuple(
            os.path.join(each, inner) for each in sources if os.path.isdir(os.path.join(image.context, each))
        )
    return image.cargo(sources).bytes if sources and (inner or has_all) else 0


def _files(call: Call) -> Iterator[str]:
    """Yield the files that a download writes."""
    addresses = [word for word in call.words if "://" in word]
    name = ""
    if call.name == "git":
        operands = call.operands
        if operands[:1] == ("clone",) and addresses:
            name = operands[-1] if operands[-1] not in addresses else _last(addresses[0]).removesuffix(".git")
    elif call.name == "wget":
        name = call.value("-O", "--output-document") or (_last(addresses[0]) if addresses else "")
        directory = call.value("-P", "--directory-prefix")
        name = os.path.join(directory, name) if directory else name
    else:
        name = call.value("-o", "--output") or next(iter(call.written), "")
        if not name and addresses and any(re.fullmatch("-[a-zA-Z]*O|--remote-name", word) for word in call.words):
            name = _last(addresses[0])
    if name and name not in ("-", "/dev/null"):
        yield os.path.normpath(os.path.join(call.directory, name))


def _last(address: str) -> str:
    return re.split("[?#]", address)[0].rstrip("/").rpartition("/")[2]


def _paths(words: tuple[str, ...], call: Call) -> Iterator[str]:
    """Yield what a command names, without wildcards at the end."""
    for word in words:
        path = os.path.normpath(os.path.join(call.directory, re.sub(r"/\*$", "", word)))
        if path != "/" and not set(path) & set("*?[$~"):
            yield path


def _mounted(earlier: Layer, layer: Layer) -> str:
    """Return a RUN that mounts what a COPY has copied, or a hint at the RUN that wrote it."""
    if not earlier.target:
        return f"# line {earlier.instruction.line}\nRUN … && rm -rf …"
    origin = earlier.instruction.flag("from")
    source = earlier.instruction.arguments[0]
    mount = (
        f"--mount=type=bind,{f'from={origin},' if origin else ''}source={source},target={earlier.target.rstrip('/')} "
    )
    return replaced(layer.instruction, r"^\s*RUN\s+", f"RUN {mount}".replace("\\", r"\\"))


def copied_layer(image: Image) -> Iterator[ImageFinding]:
    """Find a chown or a chmod that stores files of earlier layers again."""
    for number, layer in enumerate(image.layers):
        for call in layer.runs("chown", "chmod", "chgrp"):
            if not any(re.fullmatch(r"-[a-zA-Z]*R[a-zA-Z]*|--recursive", word) for word in call.words):
                continue
            mode, *words = call.operands or ("",)
            flag = "chmod" if call.name == "chmod" else "chown"
            paths = [*_paths(tuple(words), call)]
            copies = [
                (each.instruction, size)
                for each in image.layers[:number]
                for path in paths
                if _takes(each, flag) and (size := _copied(each, path, image)) != 0
            ]
            known = sum(size or 0 for _, size in copies)
            is_large = any(size is None for _, size in copies) or known >= _SMALL
            if copies and (is_large or _is_filled(image, number, paths)):
                last = copies[-1][0]
                option = f"{last.name} --{flag}={mode} ".replace("\\", r"\\")
                yield RULES[1].finding(
                    layer.instruction,
                    f"{call.name} -R stores every file that it changes once more in this layer",
                    bytes=known or None,
                    is_measured=bool(known),
                    instead=replaced(last, rf"^\s*{last.name}\s+", option),
                )
                break


def _takes(layer: Layer, flag: str) -> bool:
    """Return whether a COPY or an ADD of files could have a flag instead of a later command, and has it not.

    Files that a chown leaves as they are take no space: BuildKit compares them.
    """
    return bool(layer.sources or layer.name == "COPY") and not layer.instruction.flag(flag)


def _is_filled(image: Image, number: int, paths: list[str]) -> bool:
    """Return whether an earlier RUN has installed something below one of these paths."""
    return any(
        below(call.directory, path) and any(re.match(installer.calls, _command(call)) for installer in INSTALLERS)
        for layer in image.layers[:number]
        for call in layer.calls
        for path in paths
    )


def copy_before_install(image: Image) -> Iterator[ImageFinding]:
    """Find a COPY of everything before the dependencies are installed: each change installs them again."""
    if image.is_work:
        return
    done: set[Installer] = set()
    everything: Layer | None = None
    for layer in image.layers:
        if layer.name == "COPY" and "" in layer.sources and not layer.instruction.flag("parents"):
            everything = everything or layer
        for call in layer.calls:
            installer = _installer(call)
            if not installer:
                continue
            if everything and call.is_certain and installer not in done:
                yield RULES[2].finding(
                    everything.instruction,
                    f"Every change of a file makes line {layer.instruction.line} install the dependencies again, and Docker "
                    "stores another layer of them. Copy what lists them first",
                    instead=_reordered(installer, everything, call, image),
                )
                return
            done.add(installer)


def _installer(call: Call) -> Installer | None:
    if call.has("-g", "--global", "--offline", "--prefer-offline", "--no-deps"):
        return None
    if call.name == "pip":
        file = call.value("-r", "--requirement")
        is_local = any(word.startswith((".", "/")) for word in call.operands if word != file)
        return Installer("pip", (file,)) if file and not is_local and call.operands[:1] == ("install",) else None
    return next((each for each in INSTALLERS if re.match(each.calls, _command(call))), None)


def _command(call: Call) -> str:
    return " ".join((call.name, *call.operands))


def _reordered(installer: Installer, everything: Layer, call: Call, image: Image) -> str:
    there = [name for name in installer.files if os.path.exists(os.path.join(image.context, name))]
    names = " ".join(there or installer.files[:2])
    return f"COPY {names} ./\nRUN {line_of(call)}\n{everything.instruction.text}"


def split_install(image: Image) -> Iterator[ImageFinding]:
    """Find a `pip install` of what depends on PyTorch after one of PyTorch in another layer."""
    first: tuple[Layer, Call] | None = None
    for layer in image.named("RUN"):
        for call in layer.calls:
            if not call.is_certain or not is_pip_install(call):
                continue
            packages = [*python_packages(call, layer, image)]
            if (
                first
                and first[0] is not layer
                and any(map(brings_torch, packages))
                and not _is_constrained(call, layer)
            ):
                yield RULES[3].finding(
                    layer.instruction,
                    f"Line {first[0].instruction.line} installs PyTorch in a layer of its own. What is installed here can replace it with "
                    "another version, and the image then holds both. Install them in one step",
                    instead=f"RUN --mount=type=cache,target=/root/.cache/pip \\\n    {_merged(first[1], call)}",
                )
                return
            if "torch" in packages:
                first = first or (layer, call)


def _is_constrained(call: Call, layer: Layer) -> bool:
    return call.has("-c", "--constraint", "--no-deps") or bool(
        {**layer.variables, **call.settings}.get("PIP_CONSTRAINT")
    )


def _merged(first: Call, second: Call) -> str:
    added = second.words[second.words.index("install") + 1 :]
    return shlex.join([first.name, *first.words, *(word for word in added if word not in first.words)])


RULES = (
    Rule("deleted-later", WARNING, "A later layer removes what an earlier one keeps", deleted_later),
    Rule("copied-layer", WARNING, "A recursive chown or chmod stores files twice", copied_layer),
    Rule(
        "copy-before-install",
        WARNING,
        "Everything is copied before the dependencies are installed",
        copy_before_install,
    ),
    Rule("split-install", WARNING, "PyTorch is in a layer of its own, and can be there twice", split_install),
)
