"""What package managers install."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulkhead.review.model import Image, Layer
    from bulkhead.review.shell import Call

_SYSTEM = {  # name → the verbs that install
    **dict.fromkeys(("apt-get", "apt", "aptitude"), ("install",)),
    "apk": ("add",),
    **dict.fromkeys(("dnf", "yum", "microdnf", "tdnf"), ("install", "groupinstall", "group")),
    "zypper": ("install", "in"),
    **dict.fromkeys(("conda", "mamba", "micromamba"), ("install",)),
}
SYSTEM = tuple(_SYSTEM)
_REMOVAL = re.compile(
    r"(apt-get|apt|aptitude|dnf|yum|microdnf|zypper|apk)\b.* (purge|remove|autoremove|del|erase|rm)\b"
)
_PIP_VALUED = (
    "-r",
    "-c",
    "-i",
    "-f",
    "-e",
    "-t",
    "--index-url",
    "--extra-index-url",
    "--find-links",
    "--target",
    "--root",
)
_TORCH = re.compile(  # what brings PyTorch
    r"(torch|torchaudio|torchvision|(coqui-|f5-)?tts|openai-whisper|sentence-transformers|vllm|ultralytics|easyocr|accelerate|"
    r"pytorch-lightning|lightning|timm|xformers|bitsandbytes|fairseq|deepspeed|peft|diffusers\[torch\]|transformers\[torch\])"
)
_FRAMEWORKS = re.compile(r"(torch|tensorflow(-gpu|\[and-cuda\])?|jax\[cuda.*\]|mxnet|paddlepaddle(-gpu)?|vllm)")


def line_of(call: Call) -> str:
    return " ".join((call.name, *call.words))


def system_packages(call: Call) -> list[str]:
    """Return the packages of a system that a command installs, without their versions."""
    verbs = _SYSTEM.get(call.name, ())
    operands = call.operands
    place = next((number for number, word in enumerate(operands) if word in verbs), None)
    return [] if place is None else [re.split("[=<>~]", word)[0] for word in operands[place + 1 :]]


def removes_packages(layer: Layer) -> bool:
    """Return whether a RUN removes packages, whichever."""
    return any(_REMOVAL.search(line_of(call)) for call in layer.calls)


def is_pip_install(call: Call) -> bool:
    return (call.name == "pip" and call.operands[:1] == ("install",)) or (
        call.name == "uv" and call.operands[:2] == ("pip", "install")
    )


def python_packages(call: Call, layer: Layer, image: Image) -> Iterator[str]:
    """Yield the names of what a `pip install` installs, in lower case, also by requirement files of the context."""
    words = iter(call.words[call.words.index("install") + 1 :] if "install" in call.words else ())
    for word in words:
        name, equals, value = word.partition("=")
        if word in _PIP_VALUED or (word.startswith("--") and name in (*_PIP_VALUED, "--requirement")):
            value = value if equals else next(words, "")
            if name in ("-r", "--requirement"):
                yield from _requirements(os.path.normpath(os.path.join(call.directory, value)), layer, image)
        elif not word.startswith("-"):
            yield _package(word)


def _requirements(path: str, layer: Layer, image: Image) -> Iterator[str]:
    file = image.file_of(path, layer)
    if not file:
        return
    with open(os.path.join(image.context, file), encoding="utf-8", errors="replace") as stream:
        for line in stream.read(2**20).splitlines():
            text = line.split("#")[0].strip()
            if text and not text.startswith("-"):
                yield _package(text)


def _package(text: str) -> str:
    """
    >>> _package("Torch==2.4.0 ; python_version > '3'"), _package("jax[cuda12]>=0.4")
    ('torch', 'jax[cuda12]')
    """
    return re.split(r"[=<>~!;@ ]", text, maxsplit=1)[0].lower().replace("_", "-")


def brings_torch(package: str) -> bool:
    return bool(_TORCH.fullmatch(package.partition("[")[0]) or _TORCH.fullmatch(package))


def is_framework(package: str) -> bool:
    return bool(_FRAMEWORKS.fullmatch(package))
