"""Rules about what belongs into a volume at run time, and not into an image."""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING

from bulkhead.context.page import size
from bulkhead.review.model import INFO, WARNING, Rule, below
from bulkhead.review.python_source import fetches
from bulkhead.review.shell import calls_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulkhead.review.model import Image, ImageFinding, Layer
    from bulkhead.review.shell import Call

_LARGE = 100 * 2**20  # bytes of models and data in the context
_LONGEST = 2**20  # characters of a script that are read
_FILES = re.compile(
    r"\.(safetensors|gguf|ggml|ckpt|pth?|onnx|h5|hdf5|keras|tflite|caffemodel|weights|mlmodel|npz|npy|parquet|arrow|tfrecord)$",
    re.IGNORECASE,
)
_HUBS = re.compile(
    r"^(https?://)?([\w.-]+@)?((www\.)?huggingface\.co|hf\.co|hf-mirror\.com|civitai\.com|modelscope\.cn|(www\.)?kaggle\.com|zenodo\.org|"
    r"dl\.fbaipublicfiles\.com|download\.pytorch\.org/models|storage\.googleapis\.com/(download\.)?tensorflow|tfhub\.dev|"
    r"openaipublic\.azureedge\.net|ollama\.com/library)/"
)
_ADDRESS = re.compile(r"^(https?|s3|gs)://")
_SMALL = re.compile(r"\.(txt|json|ya?ml|md|py|sh|cfg|toml|model)$")  # configurations and tokenizers
_MODEL_CACHES = re.compile(
    r"huggingface|\bhf\b|torch|whisper|models?\b|nltk|spacy|tts|ollama|\.cache/?$", re.IGNORECASE
)
_GIB = 2**30
_KNOWN = (  # names of models → gibibytes
    (re.compile(r"en_core_web_trf|\w+_trf"), 0.44),
    (re.compile(r"\w+_core_(web|news)_lg"), 0.55),
    (re.compile(r"xtts[_-]?v2|.*/xtts_v2"), 1.8),
    (re.compile(r"large(-v[123])?|(openai/)?whisper-large.*"), 2.9),
    (re.compile(r"(openai/whisper-)?medium(\.en)?"), 1.4),
)
_SETTINGS = (  # how something is fetched → the variable with the directory that it goes to
    (re.compile(r"calls TTS|ModelManager"), "TTS_HOME"),
    (re.compile(r"nltk|calls download\b"), "NLTK_DATA"),
    (re.compile(r"calls (load|load_state_dict_from_url|download_url_to_file)\b"), "TORCH_HOME"),
    (re.compile(r"calls load_model"), "XDG_CACHE_HOME"),
    (re.compile(r"ollama"), "OLLAMA_MODELS"),
    (re.compile(r"`(hf|huggingface-cli) |calls "), "HF_HOME"),
)
_PARAMETERS = re.compile(r"[-_](\d{1,3}(?:\.\d)?)b\b", re.IGNORECASE)  # Llama-3.1-8B: billions


def model_download(image: Image) -> Iterator[ImageFinding]:
    """Find models and data that a RUN or an ADD fetches into the image, or into a stage that it copies them from."""
    for layer in image.layers:
        found = [(how, model) for how, model, _ in _fetched(layer, image)]
        if name := layer.instruction.flag("from"):
            copied = [os.path.normpath(os.path.join("/", path)) for path in layer.instruction.sources]
            found = [
                (f"line {each.instruction.line} ({how})", model)
                for each in image.builders.get(name.lower(), ())
                for how, model, place in _fetched(each, image)
                if place and any(below(place, path) for path in copied)
            ]
        if not found:
            continue
        how, model = found[0]
        how = how[:1].upper() + how[1:] if how.startswith("line") else how
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        yield RULES[0].finding(
            layer.instruction,
            f"{how}{more}: the download becomes a layer. Whenever an earlier line changes, it is downloaded and stored again. "
            "Let the program download it at run time, into a volume",
            bytes=_size(model),
            instead=_instead(how),
        )


def _fetched(layer: Layer, image: Image) -> Iterator[tuple[str, str, str]]:
    """Yield what a layer fetches: how, the name of the model, and where to; the last two are empty if they are unknown."""
    if layer.name == "ADD":
        for word in layer.instruction.arguments[:-1]:
            if _is_large(word):
                yield f"ADD fetches {word}", word, layer.target
    if any(_MODEL_CACHES.search(place) for place in layer.caches):
        return
    for call in layer.calls:
        if call.is_certain:
            for how, model, target in _fetched_by(call, layer, image):
                if not (target and layer.removes(target)):
                    yield how, model, target


def _fetched_by(call: Call, layer: Layer, image: Image, depth: int = 0) -> Iterator[tuple[str, str, str]]:
    """Yield what a command fetches, as above."""
    if call.name == "python":
        yield from ((how, model, "") for how, model in _by_python(call, layer, image))
        return
    words = call.operands
    if call.name in ("huggingface-cli", "hf") and words[:1] == ("download",):
        yield f"`{call.name} download`", next(iter(words[1:]), ""), _place(call, call.value("--local-dir"))
    elif call.name == "ollama" and words[:1] == ("pull",):
        yield "`ollama pull`", next(iter(words[1:]), ""), ""
    elif call.name == "spacy" and words[:1] == ("download",) and not words[-1].endswith("_sm"):
        yield "`spacy download`", words[-1], ""
    elif call.name == "kaggle" and "download" in words:
        yield "`kaggle … download`", "", ""
    elif call.name == "gdown" and words:
        yield "`gdown`", "", _place(call, call.value("-O", "--output"))
    elif call.name == "git" and words[:2] == ("lfs", "pull"):
        yield "`git lfs pull`", "", ""
    elif call.name == "git" and words[:1] == ("clone",):
        for word in words[1:]:
            if _HUBS.search(word) and call.settings.get("GIT_LFS_SKIP_SMUDGE") != "1":
                yield f"`git clone {word}`", word, ""
    elif call.name in ("wget", "curl", "aria2c", "aws", "gsutil", "gcloud", "axel"):
        option = ("-O", "--output-document") if call.name == "wget" else ("-o", "--output", "--out")
        place = call.value(*option) or next(iter(call.written), "")
        for word in call.words:
            if _is_large(word) or (_ADDRESS.search(word) and _FILES.search(place)):
                yield f"`{call.name}` fetches {word}", word, _place(call, place)
    elif depth == 0 and (script := _script(call, layer, image)):
        content = _content(image, script)
        if script.endswith(".py") or content.startswith(("#!/usr/bin/env python", "#!/usr/bin/python")):
            for function, model in fetches(content):
                yield f"{script} calls {function}", model, ""
        else:
            for inner in calls_in(content, call.directory, layer.variables):
                if inner.is_certain:
                    for how, model, target in _fetched_by(inner, layer, image, depth=1):
                        yield f"{script} runs {how}", model, target


def _by_python(call: Call, layer: Layer, image: Image) -> Iterator[tuple[str, str]]:
    words = call.words
    while words and words[0].startswith("-") and words[0] not in ("-c", "-m"):
        words = words[1:]
    if words[:1] == ("-c",):
        yield from ((f"`python` calls {function}", model) for function, model in fetches("".join(words[1:2])))
    elif words[:2] == ("-m", "spacy") and words[2:3] == ("download",):
        if not words[-1].endswith("_sm"):
            yield "`spacy download`", words[-1]
    elif words[:2] == ("-m", "nltk.downloader"):
        named = [word for word in words[2:] if word in ("all", "all-corpora", "popular", "book")]
        yield from (("`nltk.downloader`", f"nltk {word}") for word in named)
    elif words:
        script = words[1].replace(".", "/") + ".py" if words[0] == "-m" and len(words) > 1 else words[0]
        file = image.file_of(os.path.normpath(os.path.join(call.directory, script)), layer)
        if file:
            yield from ((f"{file} calls {function}", model) for function, model in fetches(_content(image, file)))


def _script(call: Call, layer: Layer, image: Image) -> str:
    """Return the script of the context that a command runs; empty: none that is known. The last part of its path is known."""
    if call.name in ("sh", "bash", "source", "."):
        name = next(iter(call.operands), "")
        return image.file_of(os.path.normpath(os.path.join(call.directory, name)), layer) if name else ""
    if not call.name.endswith((".sh", ".py", ".bash")):
        return ""
    return image.file_of(os.path.normpath(os.path.join(call.directory, call.path)), layer)


def _content(image: Image, file: str) -> str:
    with open(os.path.join(image.context, file), encoding="utf-8", errors="replace") as stream:
        return stream.read(_LONGEST)


def _is_large(word: str) -> bool:
    """Return whether an address is that of a model or of data, by its host and its ending."""
    address = re.split(r"[?#]", word)[0]
    if not _ADDRESS.search(address):
        return False
    return bool(_FILES.search(address) or (_HUBS.search(address) and not _SMALL.search(address)))


def _place(call: Call, path: str) -> str:
    return os.path.normpath(os.path.join(call.directory, path)) if path else ""


def _size(model: str) -> int | None:
    if match := _PARAMETERS.search(model):
        return int(float(match[1]) * 2e9)  # two bytes for a parameter
    return next((math.ceil(gib * _GIB) for pattern, gib in _KNOWN if pattern.fullmatch(model)), None)


def _instead(how: str) -> str:
    setting = next((name for pattern, name in _SETTINGS if pattern.search(how)), "")
    head = f"ENV {setting}=/models\n" if setting else ""
    return f"{head}# docker run -v models_cache:/models …"


def models_copied(image: Image) -> Iterator[ImageFinding]:
    """Find models and data that a COPY brings from the context."""
    for layer in image.layers:
        if not layer.sources:
            continue
        heavy = image.cargo(layer.sources).heavy
        whole = sum(heavy.values())
        if whole < _LARGE:
            continue
        rows = sorted(heavy.items(), key=lambda row: -row[1])[:3]
        is_named = "" not in layer.sources
        yield RULES[1].finding(
            layer.instruction,
            f"{layer.instruction.name} brings {size(whole)} of models and data into the image: "
            f"{', '.join(f'{place} {size(number)}' for place, number in rows)}. Mount a volume at run time",
            bytes=whole,
            is_measured=True,
            level=INFO if is_named else WARNING,
            instead="\n".join(["# .dockerignore", *(place.rstrip("/") for place, _ in rows)]),
        )


RULES = (
    Rule("model-download", WARNING, "The build downloads models or data into the image", model_download, is_whole=True),
    Rule("models-copied", WARNING, "A COPY brings models or data into the image", models_copied, needs_context=True),
)
