"""Rules about what only a build needs: compilers, and base images that have them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.review.instead import broken, with_base
from bulkhead.review.model import INFO, WARNING, Rule
from bulkhead.review.packages import line_of, removes_packages, system_packages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulkhead.review.model import Image, ImageFinding, Layer

_TOOLCHAIN = re.compile(
    r"build-essential|build-base|base-devel|alpine-sdk|(gcc|g\+\+|gfortran|clang|clang\+\+)(-\d+)?|gcc-c\+\+|gcc-gfortran|"
    r"cmake|ninja-build|cargo|rustc|golang(-go|-\d[\d.]*)?|mingw-w64|nvidia-cuda-toolkit|"
    r"cuda-(toolkit|compiler|nvcc|libraries-dev|minimal-build)(-[\d-]+)?|@?development[- ]tools|compilers|g(cc|xx)_linux-64"
)
_TOOLCHAIN_OF_APK = re.compile(r"go|rust")
_TOOLCHAIN_BYTES = 300 * 2**20  # of gcc, g++ and the headers of the C library
_WITH_HEADERS = re.compile(
    r"build-essential|build-base|alpine-sdk|(gcc|g\+\+|clang)(-\d+)?|gcc-c\+\+|@?development[- ]tools"
)
_BUILDERS = re.compile(
    r"(pip (install|wheel)|uv (sync|pip)|poetry install|npm (ci|i|install|run)|yarn|pnpm|gem install|bundle|cargo|go |make|cmake|"
    r"gcc|g\+\+|cc|clang|nvcc|mvn|mvnw|gradle|gradlew|dotnet|python setup\.py|mix|pecl|docker-php-ext-install|Rscript|meson|ninja|"
    r"configure|rebar3|stack|cabal|swift|composer)\b"
)
_BUILDS_AT_RUN_TIME = re.compile(r"\b(cargo|go run|go test|make|cmake|gcc|g\+\+|nvcc|npm run dev|mix phx\.server)\b")


class Toolbox(NamedTuple):
    """Base images that have a toolchain, and what an image needs of what is built with them."""

    images: str  # a regular expression for the repository and the tag
    base: str  # what the result should begin with: a template for the match
    copied: str  # what is copied out of the builder
    bytes: int | None  # that the base would be smaller by


_GIB = 2**30
TOOLBOXES = (
    Toolbox(r"(?P<a>(?:.*/)?(?:nvidia/cuda|pytorch/pytorch):.*)-devel(?P<b>.*)", r"\g<a>-runtime\g<b>", "", 5 * _GIB),
    Toolbox(r"(?:.*/)?golang(:.*)?", "gcr.io/distroless/static-debian12", "/app", 8 * _GIB // 10),
    Toolbox(r"(?:.*/)?rust(:.*)?", "debian:bookworm-slim", "/app/target/release/app", 13 * _GIB // 10),
    Toolbox(r"(?:.*/)?(gcc|haskell)(:.*)?", "debian:bookworm-slim", "/app", _GIB),
    Toolbox(r"(?:.*/)?(maven|gradle)(:.*)?", "eclipse-temurin:21-jre", "/app/target/app.jar", None),
    Toolbox(r"(?P<a>.*/dotnet)/sdk(?P<b>:.*)?", r"\g<a>/aspnet\g<b>", "/app", 6 * _GIB // 10),
    Toolbox(r"(?P<a>(?:.*/)?swift:(?!.*slim).*)", r"\g<a>-slim", "/app", 2 * _GIB),
)
_WHOLE = re.compile(r"(?P<a>(?:docker\.io/|library/)*(?P<name>python|node|ruby|perl)):(?P<tag>[\w.-]+)")
_SMALL = re.compile(r"slim|alpine|windows|nanoserver|onbuild")
_WHOLE_BYTES = 8 * _GIB // 10  # python:3 less python:3-slim, and so with the others


def toolchain_in_image(image: Image) -> Iterator[ImageFinding]:
    """Find compilers that stay in the result."""
    for layer, names in _toolchains(image):
        has_all = any(_WITH_HEADERS.fullmatch(name.lower()) for name in names)
        stay, them = ("stays", "it") if len(names) == 1 else ("stay", "them")
        yield RULES[0].finding(
            layer.instruction,
            f"{', '.join(names)} {stay} in the image. If only the build needs {them}, install {them} in another stage, and copy what "
            "is built",
            bytes=_TOOLCHAIN_BYTES if has_all else None,
            level="" if any(map(_builds, image.named("RUN"))) else INFO,  # containers may need it
            instead=_without(layer, names, image),
        )


def single_stage(image: Image) -> Iterator[ImageFinding]:
    """Find builds of one stage that compile something."""
    if image.is_work or len(image.inputs.stages) > 1 or _compiles_later(image):
        return
    toolbox = _toolbox(image)
    is_language = toolbox is not None and bool(toolbox.copied)
    if not (is_language or any(_toolchains(image))) or not any(map(_builds, image.named("RUN"))):
        return
    yield RULES[1].finding(
        image.result[0].origin,
        "The image is built in one stage: whatever the build needs stays in it. Build in a stage of its own, and copy the result "
        "into one that begins small",
        bytes=toolbox.bytes if toolbox and is_language else None,
        instead=_stages(image),
    )


def devel_base(image: Image) -> Iterator[ImageFinding]:
    """Find final images that are based on an image for building."""
    toolbox = _toolbox(image)
    if image.is_work or not toolbox or _compiles_later(image):
        return
    if toolbox.copied and len(image.inputs.stages) == 1:
        return  # single-stage has it
    base = image.result[0].base
    smaller = _smaller(base, toolbox)
    yield RULES[2].finding(
        image.result[0].origin,
        f"{base} is an image for building, and the final image is based on it",
        bytes=toolbox.bytes,
        instead=with_base(image.result[0].origin, smaller),
    )


def full_base(image: Image) -> Iterator[ImageFinding]:
    """Find results that begin with the whole image of a language, which has a compiler."""
    base = image.result[0].base
    match = _WHOLE.fullmatch(base.partition("@")[0])
    if image.is_work or not match or _SMALL.search(match["tag"]):
        return
    yield RULES[3].finding(
        image.result[0].origin,
        f"{base} has a compiler and the headers of many libraries. {match['name']}'s slim images have not",
        bytes=_WHOLE_BYTES,
        instead=with_base(
            image.result[0].origin,
            f"{match['a']}:{match['tag']}-slim" if match["tag"] != "latest" else f"{match['a']}:slim",
        ),
    )


def _toolchains(image: Image) -> Iterator[tuple[Layer, list[str]]]:
    if image.is_work or _compiles_later(image):
        return
    for layer in image.named("RUN"):
        found = {
            name: None
            for call in layer.calls
            if call.is_certain
            for name in system_packages(call)
            if _TOOLCHAIN.fullmatch(name.lower()) or (call.name == "apk" and _TOOLCHAIN_OF_APK.fullmatch(name))
        }
        if any(
            call.name in ("curl", "wget") and any("sh.rustup.rs" in word for word in call.words) and call.is_certain
            for call in layer.calls
        ):
            found["Rust"] = None
        if found and not removes_packages(layer):
            yield layer, [*found]


def _compiles_later(image: Image) -> bool:
    """Return whether containers of the image build something."""
    starts = [each.instruction for each in image.layers if each.name in ("CMD", "ENTRYPOINT")]
    return any(_BUILDS_AT_RUN_TIME.search(" ".join(each.arguments)) for each in starts[-2:])


def _builds(layer: Layer) -> bool:
    return any(call.is_certain and _BUILDERS.match(line_of(call)) for call in layer.calls)


def _toolbox(image: Image) -> Toolbox | None:
    """Return what the result begins with, if that is to build with and the result starts a program of its own."""
    if not any(each.name in ("CMD", "ENTRYPOINT") for each in image.layers):
        return None
    base = image.result[0].base.partition("@")[0]
    return next((each for each in TOOLBOXES if re.fullmatch(each.images, base)), None) if base else None


def _smaller(base: str, toolbox: Toolbox) -> str:
    match = re.fullmatch(toolbox.images, base.partition("@")[0])
    return match.expand(toolbox.base) if match else toolbox.base


def _without(layer: Layer, names: list[str], image: Image) -> str:
    """Return a RUN that does not install a toolchain, or the outline of a build in two stages where nothing is left."""
    others = [name for call in layer.calls for name in system_packages(call) if name not in names]
    if not others or names == ["Rust"]:
        return _stages(image)
    words = "|".join(map(re.escape, names))
    text = re.sub(rf"\s(?:{words})(?:=\S+)?(?=\s|$)", "", layer.instruction.text)
    return broken(text) + "".join(f"\n{each.content}{each.name}" for each in layer.instruction.heredocs)


def _stages(image: Image) -> str:
    """Return the outline of a build in two stages."""
    base = image.result[0].base
    toolbox = _toolbox(image)
    smaller = _smaller(base, toolbox) if toolbox else base
    if toolbox and toolbox.copied:
        return (
            f"FROM {base} AS builder\n# … what is there now, without CMD and ENTRYPOINT\nFROM {smaller}\n"
            f"COPY --from=builder {toolbox.copied} {toolbox.copied}\n# … CMD or ENTRYPOINT"
        )
    installs = [broken(layer.instruction.text) for layer, _ in _toolchains(image)]
    head = "\n".join([f"FROM {base or 'BASE'} AS builder", *installs])
    calls = [call for layer in image.named("RUN") for call in layer.calls]
    if any(call.name == "pip" for call in calls):
        return (
            f"{head}\nRUN python3 -m venv /opt/venv\nENV PATH=/opt/venv/bin:$PATH\n# … pip install …\nFROM {smaller or 'BASE'}\n"
            "COPY --from=builder /opt/venv /opt/venv\nENV PATH=/opt/venv/bin:$PATH"
        )
    copied = "/app/node_modules" if any(call.name in ("npm", "yarn", "pnpm") for call in calls) else "/app"
    return f"{head}\n# … the RUN that build\nFROM {smaller or 'BASE'}\nCOPY --from=builder {copied} {copied}"


RULES = (
    Rule("toolchain-in-image", WARNING, "A toolchain stays in the image", toolchain_in_image),
    Rule("single-stage", WARNING, "What the build needs stays in the image: it has one stage", single_stage),
    Rule("devel-base", WARNING, "The final image is based on an image for building", devel_base),
    Rule("full-base", INFO, "The result begins with an image that has a compiler", full_base),
)
