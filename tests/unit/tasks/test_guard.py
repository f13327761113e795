"""The guard's unit: of which program it is, and what it must not have."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.program import digest
from tasks.support.archive import archive
from tasks.support.files import render


def unit(program: str = digest(archive())) -> str:
    return render("docker-guard.service.j2", program=program)


def test_another_program_is_another_unit() -> None:
    assert unit() == unit()
    assert unit("another") != unit()


def test_no_setting_gives_it_mounts_of_its_own() -> None:
    """Each of these makes a mount namespace (systemd.exec(5)), in which a volume that the host unmounts stays mounted."""
    settings = {line.partition("=")[0] for line in unit().splitlines() if "=" in line and not line.startswith("#")}
    namespaces = (
        *(
            "Bind",
            "ExtensionDirectories",
            "ExtensionImages",
            "Inaccessible",
            "MountAPIVFS",
            "MountImages",
            "NoExecPaths",
        ),
        *(
            "Private",
            "ProcSubset",
            "Protect",
            "ReadOnly",
            "ReadWrite",
            "RootDirectory",
            "RootImage",
            "TemporaryFileSystem",
        ),
    )
    assert not [setting for setting in settings if setting.startswith(namespaces)]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd")
def test_systemd_understands_it(tmp_path: Path) -> None:
    path = tmp_path / "docker-guard.service"
    path.write_text(unit().replace("/usr/local/bin/bulkhead", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert not [line for line in done.stderr.splitlines() if line.startswith(str(path))], done.stderr
