"""A whole run of deploy.py or undeploy.py on an example host, without a connection."""

from __future__ import annotations

import importlib
import pkgutil
import runpy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import Config
from pyinfra.context import ctx_config, ctx_host

import pyinfra_lvm
import tasks
from settings import check
from settings.model import Settings

from .operations import OperationHost, performed

TOP = Path(__file__).parents[3]


def modules() -> Iterator[Any]:
    for package in (tasks, pyinfra_lvm):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield importlib.import_module(found.name)


def operations() -> dict[str, Callable[..., Any]]:
    """Every operation of this project, by its name."""
    values = (value for module in modules() for value in vars(module).values())
    inner = (value._inner for value in values if hasattr(value, "_inner"))
    return {f"{one.__module__}.{one.__name__}": one for one in inner if hasattr(one, "is_idempotent")}


@dataclass
class Deployment:
    """What a run does on a host, operation by operation.

    Args:
        ran: operation → its commands.
        names: what the user reads of each operation, in their order.
        arguments: each operation in their order, and what it is called with.
        stage: whether pyinfra executes while an operation is performed.
    """

    host: OperationHost
    ran: dict[str, list[Any]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    arguments: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    stage: bool = True

    def replace_operations(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have each operation perform at once what it does on the host."""
        for module in modules():
            for name, value in list(vars(module).items()):
                inner = getattr(value, "_inner", None)
                if inner:
                    is_operation = hasattr(inner, "is_idempotent")
                    monkeypatch.setattr(module, name, self._performer(inner) if is_operation else inner)

    def _performer(self, inner: Callable[..., Any]) -> Callable[..., None]:
        def perform(*, name: str, **arguments: Any) -> None:
            self.names.append(name)
            self.arguments.append((f"{inner.__module__}.{inner.__name__}", arguments))
            self.host.state.is_executing = self.stage
            self.host.noops.clear()
            operation = type("Operation", (), {"_inner": staticmethod(inner)})
            done = performed(operation, self.host, **arguments)  # type: ignore[arg-type]
            self.ran.setdefault(f"{inner.__module__}.{inner.__name__}", []).extend(done)

        return perform


def deployed(script: str, wanted: Settings, host: OperationHost, *, dry: bool = False) -> Deployment:
    """Run deploy.py or undeploy.py with these settings on a host: pyinfra prepares, and executes unless the run is dry."""
    run = Deployment(host, stage=not dry)
    host.state.is_executing = False
    with pytest.MonkeyPatch.context() as patched, ctx_host.use(host), ctx_config.use(Config()):
        run.replace_operations(patched)
        patched.setattr(check, "settings_of", lambda _: wanted)
        runpy.run_path(str(TOP / script))
    return run
