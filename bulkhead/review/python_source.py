"""Find what a Python program fetches from model hubs. It is read, never run."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Functions that download a model or a data set if it is not there. Methods count whatever they belong to.
_METHODS = {
    "from_pretrained",
    "snapshot_download",
    "hf_hub_download",
    "load_state_dict_from_url",
    "download_url_to_file",
}
_FUNCTIONS = {
    "torch.hub.load",
    "whisper.load_model",
    "nltk.download",
    "spacy.cli.download",
    "transformers.pipeline",
    "sentence_transformers.SentenceTransformer",
    "sentence_transformers.CrossEncoder",
    "faster_whisper.WhisperModel",
    "datasets.load_dataset",
    "TTS.api.TTS",
    "TTS.utils.manage.ModelManager",
    "easyocr.Reader",
    "tensorflow_hub.load",
    "gdown.download",
    "modelscope.pipeline",
}


def fetches(source: str) -> Iterator[tuple[str, str]]:
    """Yield each call that fetches a model: the function, and the name of the model if it stands there.

    A program that this Python cannot read fetches nothing that is known.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    names = _imports(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = _dotted(node.func, names)
            if (function in _FUNCTIONS or function.rpartition(".")[2] in _METHODS) and not _is_local(node):
                yield function.rpartition(".")[2], _model(node)


def _imports(tree: ast.AST) -> dict[str, str]:
    """Return what the imported names mean."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({each.asname: each.name for each in node.names if each.asname})
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update({each.asname or each.name: f"{node.module}.{each.name}" for each in node.names})
    return names


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """Return the whole name of a function."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(names.get(node.id, node.id))
    return ".".join(reversed(parts))


def _is_local(node: ast.Call) -> bool:
    """Return whether a call loads from a directory, as far as it says so."""
    model = _model(node)
    only_local = any(
        each.arg == "local_files_only" and isinstance(each.value, ast.Constant) and each.value.value is True
        for each in node.keywords
    )
    return only_local or model.startswith((".", "/", "~"))


def _model(node: ast.Call) -> str:
    keywords = [
        each.value for each in node.keywords if each.arg in ("model", "model_name", "repo_id", "name", "repo_or_dir")
    ]
    for value in (*node.args, *keywords):
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return value.value
    return ""
