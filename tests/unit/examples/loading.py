"""Load what the example consists of. It is no package: its programs run on their own."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[3]
EXAMPLE = TOP / "examples/audio-voice"


def load(name: str) -> Any:
    """Return a program of the example as a module."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, EXAMPLE / name)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
