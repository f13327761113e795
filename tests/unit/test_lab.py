"""The lab's decisions: QEMU's command line, cloud-init's seed, what a machine's settings are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab import cache, qemu
from lab.image import Recipe
from lab.machine import LabError, Machine, inventory_settings, seed_files, shell_join
from tests.lab.conftest import Run


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_CACHE", str(tmp_path))
    cache.ssh_key.cache_clear()


def line(**changes: object) -> list[str]:
    arguments = {
        "disks": [qemu.Disk("root", Path("/d/root.qcow2"))],
        "console": Path("/d/console.log"),
        "network": 2222,
        "accelerator": "tcg",
    }
    return qemu.command(**arguments | changes)  # type: ignore[arg-type]


def test_ssh_is_forwarded_on_the_loopback_address_only() -> None:
    assert "user,id=net,hostfwd=tcp:127.0.0.1:2222-:22" in line()


def test_what_the_guest_flushed_survives_the_end_of_qemu() -> None:
    (drive,) = [word for word in line() if word.startswith("if=none,id=root")]
    assert "cache=writeback" in drive


def test_image_of_the_lab_boots_its_own_kernel_and_a_cloud_image_its_own_loader() -> None:
    assert "-kernel" in line(kernel=Path("/i"), append="root=/dev/vda")
    assert "-kernel" not in line()


def test_seed_lets_root_in_with_the_key_of_the_lab() -> None:
    files = seed_files("ssh-ed25519 AAAA lab")
    head, _, body = files["user-data"].partition("\n")
    assert head == "#cloud-config"
    assert json.loads(body) == {
        "disable_root": False,
        "users": [{"name": "root", "ssh_authorized_keys": ["ssh-ed25519 AAAA lab"]}],
    }
    assert "instance-id" in files["meta-data"]


def test_recipe_that_differs_has_an_image_of_its_own() -> None:
    recipes = [Recipe(), Recipe("trixie"), Recipe(layout="spare-disk"), Recipe(docker="preinstalled")]
    assert len({recipe.name for recipe in recipes}) == len(recipes)


def test_settings_of_a_machine_follow_from_its_recipe() -> None:
    assert inventory_settings(Recipe()) == {"engine_source": "distro"}
    assert inventory_settings(Recipe(layout="decoy"))["volume_disks"] == ["/dev/disk/by-id/virtio-spare"]
    assert inventory_settings(Recipe("sid"))["allow_unsupported_release"] is True


def test_machine_that_is_not_there_is_an_error_with_a_way_out() -> None:
    with pytest.raises(LabError, match="there is no machine 'x': scripts/lab up x makes it"):
        Machine.get("x")


def test_process_of_another_program_is_no_running_machine() -> None:
    assert not Machine("x", None, {}, 1, pid=1).running


def test_words_after_the_dashes_are_one_command() -> None:
    assert shell_join(["docker", "run", "a b"]) == "docker run 'a b'"
    assert shell_join(["df / | tail -1"]) == "df / | tail -1"


def test_names_of_changed_operations_are_read_off_pyinfras_output() -> None:
    output = (
        "--> Starting operation: A | one \n    [x] Success\n\n--> Starting operation: B \n    [x] No changes\n\n"
        "--> Results:\n    Grand total    2    1    -    1\n"
    )
    assert Run(0, output).changed == {"A | one"}
    assert Run(0, output).changes == 1
