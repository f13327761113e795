"""The lab's stand-ins for NVIDIA's container toolkit write what NVIDIA's programs write."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from lab import deb, nvidia_packages

SMI = "#!/bin/sh\necho 'GPU 0: NVIDIA A100-PCIE-40GB (UUID: GPU-b01dface)'\n"


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ctk(plain_python: Path) -> Run:
    def ctk(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        line = [plain_python, nvidia_packages.SOURCES / "nvidia-ctk", *arguments]
        return subprocess.run(line, capture_output=True, text=True, env=environment)

    return ctk


@pytest.fixture
def configure(ctk: Run) -> Run:
    return partial(ctk, "runtime", "configure", "--runtime=docker")


def test_missing_daemon_json_is_made_with_the_runtime(configure: Run, tmp_path: Path) -> None:
    daemon_json = tmp_path / "docker" / "daemon.json"
    done = configure(f"--config={daemon_json}")
    assert done.returncode == 0
    assert daemon_json.read_text() == (
        "{\n"
        '    "runtimes": {\n'
        '        "nvidia": {\n'
        '            "args": [],\n'
        '            "path": "nvidia-container-runtime"\n'
        "        }\n"
        "    }\n"
        "}"
    )
    assert "Config file does not exist; using empty config" in done.stderr
    assert f"Wrote updated config to {daemon_json}" in done.stderr
    assert "It is recommended that docker daemon be restarted." in done.stderr


def test_keys_and_runtimes_of_others_are_kept_and_sorted(configure: Run, tmp_path: Path) -> None:
    daemon_json = tmp_path / "daemon.json"
    theirs = {"path": "mine"}
    daemon_json.write_text(json.dumps({"live-restore": True, "runtimes": {"nvidia": {"options": 1}, "mine": theirs}}))
    assert configure(f"--config={daemon_json}", "--set-as-default").returncode == 0
    made = json.loads(daemon_json.read_text())
    assert list(made) == ["default-runtime", "live-restore", "runtimes"]
    assert made["default-runtime"] == "nvidia"
    assert made["runtimes"] == {"mine": theirs, "nvidia": {"args": [], "path": "nvidia-container-runtime"}}


@pytest.mark.parametrize("option", ["--cdi.enabled", "--cdi.enable", "--enable-cdi"])
def test_other_features_are_dropped_when_cdi_is_turned_on(configure: Run, tmp_path: Path, option: str) -> None:
    daemon_json = tmp_path / "daemon.json"
    daemon_json.write_text('{"features": {"buildkit": true}}')
    configure(f"--config={daemon_json}", option)
    assert json.loads(daemon_json.read_text())["features"] == {"cdi": True}


@pytest.mark.parametrize(("text", "error"), [("", "EOF"), ("{", "unable to load config for runtime docker")])
def test_invalid_daemon_json_is_left_alone(configure: Run, tmp_path: Path, text: str, error: str) -> None:
    daemon_json = tmp_path / "daemon.json"
    daemon_json.write_text(text)
    done = configure(f"--config={daemon_json}")
    assert done.returncode == 1
    assert error in done.stderr
    assert daemon_json.read_text() == text


def test_dry_run_prints_and_writes_nothing(configure: Run, tmp_path: Path) -> None:
    done = configure(f"--config={tmp_path}/daemon.json", "--dry-run")
    assert "nvidia" in json.loads(done.stdout)["runtimes"]
    assert not (tmp_path / "daemon.json").exists()


def test_configuration_is_written_once_and_kept(ctk: Run, tmp_path: Path) -> None:
    file = tmp_path / "nvidia-container-runtime" / "config.toml"
    line = ("--quiet", "config", f"--config-file={file}", "--in-place")
    assert ctk(*line).returncode == 0
    assert 'mode = "auto"' in file.read_text()
    file.write_text("mine = true\n")
    ctk(*line)
    assert file.read_text() == "mine = true\n"


def test_specification_has_the_devices_that_nvidia_smi_lists(ctk: Run, tmp_path: Path) -> None:
    smi, output = tmp_path / "nvidia-smi", tmp_path / "cdi" / "nvidia.yaml"
    smi.write_text(SMI)
    smi.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    done = ctk("cdi", "generate", PATH=path, NVIDIA_CTK_CDI_OUTPUT_FILE_PATH=str(output))
    assert done.returncode == 0, done.stderr
    assert "\nkind: nvidia.com/gpu\n" in output.read_text()
    assert output.stat().st_mode & 0o777 == 0o644
    listed = ctk("cdi", "list", "--spec-dir", output.parent)
    assert listed.stdout.split() == ["nvidia.com/gpu=0", "nvidia.com/gpu=GPU-b01dface", "nvidia.com/gpu=all"]
    assert "Found 3 CDI devices" in listed.stderr


def test_no_specification_is_made_without_a_gpu(ctk: Run, tmp_path: Path) -> None:
    done = ctk("cdi", "generate", f"--output={tmp_path}/nvidia.yaml", PATH=str(tmp_path))
    assert done.returncode == 1
    assert not (tmp_path / "nvidia.yaml").exists()


def test_packages_of_each_version_have_the_units_where_nvidia_has_them(tmp_path: Path) -> None:
    nvidia_packages.make(tmp_path)
    for version, unit, conffiles in (
        ("1.19.1", "./etc/systemd/system/nvidia-cdi-refresh.path", 3),
        ("1.20.1", "./lib/systemd/system/nvidia-cdi-refresh.path", 1),
    ):
        base = tmp_path / f"nvidia-container-toolkit-base_{version}-1_amd64.deb"
        assert unit in _dpkg_deb("--contents", base).split()
        assert len(_dpkg_deb("--info", base, "conffiles").split()) == conffiles
        toolkit = deb.fields(_dpkg_deb("--field", tmp_path / f"nvidia-container-toolkit_{version}-1_amd64.deb"))
        assert f"nvidia-container-toolkit-base (= {version}-1)" in toolkit["Depends"]
    assert len(list(tmp_path.iterdir())) == 8


def _dpkg_deb(*arguments: str | Path) -> str:
    return subprocess.run(["dpkg-deb", *arguments], check=True, capture_output=True, text=True).stdout
