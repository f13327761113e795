"""What all unit tests share.

pyinfra's command line has gevent patch the standard library as soon as it is imported. Unit tests do without: with the patch
every process takes several times as long to start, and the host program's tests could not run beside the others, because gevent
takes the ends of processes for itself.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from gevent import monkey

from .prepared import Prepared

monkey.patch_all = lambda: None

# To look for unreachable circles after every 700 objects takes up to a tenth of the time, and finds next to nothing.
gc.set_threshold(100_000)

_numbers = count(1)


def pytest_collection_finish() -> None:
    """Have the garbage collector leave alone what is there until the end: the tests, and all that they have imported."""
    gc.freeze()


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a directory. pytest's own fixture looks through those of all tests before it, which takes seconds for thousands."""
    path = tmp_path_factory.getbasetemp() / f"test-{next(_numbers)}"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture(scope="session")
def python_with_pyinfra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a Python for runs of pyinfra: it has pyinfra imported already, patch and all."""
    directory = tmp_path_factory.mktemp("python")
    with Prepared(directory, "pyinfra_cli.main", "pyinfra.operations.server", "pydantic", "jinja2") as python:
        yield python.program


@pytest.fixture(scope="session")
def plain_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a Python without a virtual environment."""
    modules = ("argparse", "ast", "dataclasses", "ipaddress", "json", "random", "tempfile", "threading", "zipfile")
    interpreter = Path(sys.executable).resolve()
    with Prepared(tmp_path_factory.mktemp("python"), *modules, python=interpreter) as python:
        yield python.program
