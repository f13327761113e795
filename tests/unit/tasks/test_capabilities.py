"""What a user reads of a run: every step stands under the name of its capability."""

from __future__ import annotations

from .deployment import modules


def test_each_step_is_shown_with_its_capability() -> None:
    inner = (getattr(value, "_inner", None) for module in modules() for value in vars(module).values())
    named = {f"{one.__module__}.{one.__name__}": one.deploy_name for one in inner if hasattr(one, "deploy_name")}
    assert named == {
        "tasks.engine.add_repository": "Engine",
        "tasks.engine.install": "Engine",
        "tasks.lost_volumes.give_up": "Lost volumes",
        "tasks.nvidia.add_repository": "NVIDIA",
        "tasks.nvidia.install": "NVIDIA",
        "tasks.nvidia.remove": "NVIDIA",
        "tasks.program.install": "Host program",
        "tasks.rehearsal.simulate": "Packages",
        "tasks.removal.remove": "Removal",
        "tasks.volume.clear_stores": "Volume",
        "tasks.volume.mount_stores": "Volume",
        "tasks.volume.provision": "Volume",
        "tasks.watch.install": "Watch",
    }
