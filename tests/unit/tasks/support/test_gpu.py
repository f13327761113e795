"""Which running containers can lose their GPUs, and the warning before they do."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import StringCommand
from pyinfra.context import ctx_host

from tasks.support import gpu
from tasks.support.gpu import GpuContainers

from ..operations import OperationHost, commands, shell, stand_in

ALL_BY_HOOK = {"Driver": "", "Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
ALL_BY_CDI = {"Driver": "cdi", "Count": 0, "DeviceIDs": ["nvidia.com/gpu=all"], "Capabilities": None, "Options": None}


def line(name: str, runtime: str = "runc", requests: Any = None, environment: Any = None) -> str:
    """What `docker inspect` prints of a container by the fact's template."""
    visible = [one for one in environment or [] if one.split("=")[0] == "NVIDIA_VISIBLE_DEVICES"]
    return json.dumps([f"/{name}", runtime, requests, *visible, ""])


@pytest.mark.parametrize(
    ("counts", "runtime", "requests", "environment"),
    [
        (True, "runc", [ALL_BY_HOOK], None),
        (True, "runc", [ALL_BY_CDI, ALL_BY_HOOK], None),
        (True, "runc", [{**ALL_BY_HOOK, "Driver": "nvidia", "Capabilities": None}], None),
        (True, "nvidia", None, ["PATH=/bin", "NVIDIA_VISIBLE_DEVICES=all"]),
        (True, "nvidia-legacy", None, ["NVIDIA_VISIBLE_DEVICES=0,1"]),
        (True, "nvidia", [], ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=none"]),
        (False, "nvidia", None, ["NVIDIA_VISIBLE_DEVICES=none"]),
        (False, "nvidia", None, ["NVIDIA_VISIBLE_DEVICES=void"]),
        (False, "nvidia", None, ["NVIDIA_VISIBLE_DEVICES="]),
        (False, "nvidia", None, None),
        (False, "runc", None, ["NVIDIA_VISIBLE_DEVICES=all"]),
        (False, "runc", [ALL_BY_CDI], ["NVIDIA_VISIBLE_DEVICES=all"]),
        (False, "runc", [{**ALL_BY_CDI, "Capabilities": [["gpu"]]}], None),
        (False, "runc", [{**ALL_BY_HOOK, "Driver": "other", "Capabilities": [["tpu"]]}], None),
        (False, "runc", [{**ALL_BY_HOOK, "Driver": "other", "Capabilities": None}], None),
        (False, "runc", [], []),
    ],
)
def test_container_counts_that_was_given_gpus_behind_systemds_back(
    counts: bool, runtime: str, requests: Any, environment: Any
) -> None:
    found = GpuContainers().process([line("train", runtime, requests, environment)])
    assert found == (["train"] if counts else [])


def test_every_container_is_looked_at() -> None:
    assert GpuContainers().process(
        [line("one", requests=[ALL_BY_HOOK]), line("web"), line("two", requests=[ALL_BY_HOOK])]
    ) == ["one", "two"]


def test_of_a_containers_environment_one_variable_alone_leaves_the_host() -> None:
    (template,) = re.findall("--format '([^']*)'", GpuContainers().command())
    only_that = '{{if eq (index (split . "=") 0) "NVIDIA_VISIBLE_DEVICES"}}{{json .}},{{end}}'
    around = template.replace(f"{{{{range .Config.Env}}}}{only_that}{{{{end}}}}", '"NVIDIA_VISIBLE_DEVICES=all",')
    printed = around.replace("{{json .Name}}", '"/train"').replace("{{json .HostConfig.Runtime}}", '"nvidia"')
    printed = printed.replace("{{json .HostConfig.DeviceRequests}}", "null")
    assert "{{" not in printed, "something else of a container is asked for"
    assert GpuContainers().process([printed]) == ["train"]


WHOLE = line("train", "nvidia", [ALL_BY_HOOK], ["NVIDIA_VISIBLE_DEVICES=all"])


def test_output_that_is_cut_fails_no_host_and_is_reported() -> None:
    others = ("[]", "{}", "5", "null", '["/train"]', '["/a", "runc", [{}], ""]')
    for cut in (*(WHOLE[:length] for length in range(len(WHOLE))), *others):
        assert GpuContainers().process([WHOLE, cut]) == ["containers that Docker could not list"], cut


@pytest.mark.parametrize(
    ("tools", "docker_runs", "found"),
    [
        (("nvidia-container-runtime",), True, ["train"]),
        ((), True, []),
        (("nvidia-container-runtime",), False, []),
    ],
    ids=["running", "no toolkit", "Docker stopped"],
)
def test_docker_is_asked_only_where_it_runs_and_has_the_toolkit(
    tmp_path: Path, tools: tuple[str, ...], docker_runs: bool, found: list[str]
) -> None:
    scripts = dict.fromkeys(tools, "") | {
        "systemctl": f"exit {0 if docker_runs else 3}",
        "docker": f"""
            [ "$1 $2" = "--host unix:///run/docker.sock" ] || exit 1
            echo asked >>{tmp_path}/asked
            case $3 in ps) echo c1 ;; inspect) [ "$6" = c1 ] && echo '{line("train", "runc", [ALL_BY_HOOK])}' ;; esac""",
    }
    for name, script in scripts.items():
        stand_in(tmp_path, name, script)
    done = shell(GpuContainers().command(), tmp_path)
    assert GpuContainers().process(done.stdout.splitlines()) == found
    assert (tmp_path / "asked").exists() == bool(found)


# -- the warning


class Reload:
    """An operation that reloads systemd."""

    @staticmethod
    def _inner() -> Generator[StringCommand, None, None]:
        gpu.warn_before("systemd is reloaded")
        yield StringCommand("systemctl daemon-reload")


def test_containers_are_named_before_what_comes_and_what_to_do_then() -> None:
    host = OperationHost({GpuContainers: ["train", "infer"]})
    commands(Reload, host)
    warning, command = host.events
    assert warning.startswith("Warning: systemd is reloaded while containers with GPUs run: train, infer. ")
    assert '"Failed to initialize NVML: Unknown Error"' in warning
    assert "`docker restart`" in warning
    assert command == "systemctl daemon-reload"


def test_nothing_is_logged_where_no_container_has_gpus() -> None:
    host = OperationHost()
    commands(Reload, host)
    assert host.logged == []


def test_each_host_is_asked_once() -> None:
    one, other = OperationHost({GpuContainers: ["train"]}), OperationHost({GpuContainers: []}, name="web-2")
    for _ in range(2):
        for host in (one, other):
            commands(Reload, host)
    assert (one.asked, other.asked) == ([GpuContainers], [GpuContainers])
    assert (len(one.logged), len(other.logged)) == (1, 0)


def test_each_warning_comes_once_before_the_prompt_and_once_where_it_happens() -> None:
    host = OperationHost({GpuContainers: ["train"]})
    reload, restart = "systemd is reloaded", "Docker is restarted"
    with ctx_host.use(host):
        for phase in (False, True):
            host.state.is_executing = phase
            for what in (reload, restart, reload, restart):
                gpu.warn_before(what)
    assert [warning.partition(" while ")[0] for warning in host.logged] == [
        f"Warning: {what}" for what in (reload, restart) * 2
    ]
    assert host.asked == [GpuContainers]
