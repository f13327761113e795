"""Find the volumes that a host names and that are not there, and judge whether new ones may take their place. Pure.

A disk may only be detached, or a volume removed by mistake: a new volume of the same name would make its data much harder
to bring back. So nothing takes the place of a lost volume before its owner has said that the data is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bulkhead.names import (
    CONTAINERD_STORE,
    DOCKER_STORE,
    PROGRAM_CONFIGURATION,
    RELOCATED,
    RELOCATION_JOURNAL,
    ROLLBACK_JOURNAL,
    VOLUME_FILE,
    VOLUME_FILE_SERVICE,
    move_journal,
)
from pyinfra_lvm.model import LogicalVolume, Storage, names_in
from pyinfra_lvm.operations import fstab_entries_of
from settings.model import Settings
from tasks.preflight.finding import Finding
from tasks.preflight.host import HostState
from tasks.preflight.logical_volume import is_empty
from tasks.preflight.plan import ADOPTED_NAMES, LostVolume
from tasks.support.paths import FSTAB, STOPPED_BY_UPGRADE, STORES, TAG, store_binds

# In these phases of a move's journal the data is on its volume.
MOVED = (*RELOCATED, "finalized")
# In these it is off its volume again.
_OFF_THE_VOLUME = {"failed": "the move onto it failed", "rolled-back": "the move onto it was rolled back"}


def find_lost_volumes(settings: Settings, state: HostState, storage: Storage) -> tuple[LostVolume, ...]:
    """Return the volumes of the settings that fstab, the program's configuration or a journal names, and that are not there."""
    found = [_lost_docker_volume(settings, state, storage)]
    for name, volume in settings.extra_volumes.items():
        journal = move_journal(volume.mount)
        phase = state.moves.get(journal, "")
        found.append(
            _lost_volume(
                storage,
                name,
                volume.mount,
                state.configured_extra_volumes.get(volume.mount, ""),
                # Its owner may have given it up: it left the settings, and then the configuration. Its journal stays.
                told_by=(journal,) if phase in MOVED and not state.configured_volume else (),
                stale_files=(journal,) if phase else (),
            )
        )
    return tuple(volume for volume in found if volume)


def _lost_docker_volume(settings: Settings, state: HostState, storage: Storage) -> LostVolume | None:
    binds = store_binds(settings.volume_mount)
    bound = tuple((entry.source, entry.target) for entry in storage.fstab if (entry.source, entry.target) in binds)
    journal = (RELOCATION_JOURNAL,) if state.relocation in MOVED else ()
    return _lost_volume(
        storage,
        settings.logical_volume,
        settings.volume_mount,
        state.configured_volume,
        is_ours=bool(bound),
        told_by=(*((FSTAB,) if bound else ()), *journal),
        stale_lines=bound,
        stale_files=(
            *journal,
            *((ROLLBACK_JOURNAL,) if state.rollback else ()),
            *((STOPPED_BY_UPGRADE,) if state.stopped_by_upgrade else ()),
        ),
    )


def _lost_volume(
    storage: Storage,
    name: str,
    mount: str,
    configured: str,
    *,
    is_ours: bool = False,
    told_by: tuple[str, ...],
    stale_lines: tuple[tuple[str, str], ...] = (),
    stale_files: tuple[str, ...],
) -> LostVolume | None:
    sources = [entry.source for entry in storage.fstab if entry.target == mount]
    listed = [source for source in sources if names_in(source)]
    if not listed and is_ours and not names_in(configured):
        # The stores are bound from a filesystem that was adopted.
        listed = [source for source in sources if source.startswith(ADOPTED_NAMES)]
    devices = [*listed, *([configured] if configured else [])]
    if not devices and not told_by:
        return None
    # Somebody may have renamed it, or its group. Without a name that is recorded, any volume of the name counts.
    same_name = (v for v in storage.logical_volumes if v.name == name and (TAG in v.tags or not devices))
    if any(_is_there(storage, path) for path in (*devices, *(volume.mapper_path for volume in same_name))):
        return None
    named_by = (*([FSTAB] if listed else []), *([PROGRAM_CONFIGURATION] if configured else []), *told_by)
    lines = (*((source, mount) for source in listed), *stale_lines)
    return LostVolume(name, mount, (*devices, "")[0], tuple(dict.fromkeys(named_by)), lines, stale_files)


def _is_there(storage: Storage, path: str) -> bool:
    """Return whether a volume exists. One that is not active does, and one that a cut run began and left empty does not."""
    volume = _listed(storage, path)
    if volume is None:
        return storage.device(path) is not None and not _is_orphaned(storage, path)
    return not is_empty(storage, volume)


def _is_orphaned(storage: Storage, path: str) -> bool:
    """Return whether the kernel has a logical volume that LVM does not list: its disk was pulled out, or LVM fails."""
    device = storage.device(path)
    return device is not None and device.type == "lvm" and storage.lvm_installed and _listed(storage, path) is None


def _listed(storage: Storage, path: str) -> LogicalVolume | None:
    """Return the volume that LVM has under a name of its device; fstab names an adopted one by its UUID."""
    device = storage.device(path)
    names = {path, *(device.aliases if device else ())}
    return next((volume for volume in storage.logical_volumes if names & {volume.path, volume.mapper_path}), None)


def without_lost_volumes(state: HostState, storage: Storage, lost: Sequence[LostVolume]) -> tuple[HostState, Storage]:
    """Return the facts of a host as they are once it no longer names these volumes."""
    if not lost:
        return state, storage
    lines = {line for volume in lost for line in volume.stale_lines}
    files = {path for volume in lost for path in volume.stale_files}
    return (
        replace(
            state,
            relocation="" if RELOCATION_JOURNAL in files else state.relocation,
            rollback="" if ROLLBACK_JOURNAL in files else state.rollback,
            stopped_by_upgrade=state.stopped_by_upgrade and STOPPED_BY_UPGRADE not in files,
            moves={journal: phase for journal, phase in state.moves.items() if journal not in files},
        ),
        replace(storage, fstab=tuple(entry for entry in storage.fstab if (entry.source, entry.target) not in lines)),
    )


def judge_lost_volumes(
    settings: Settings, state: HostState, storage: Storage, lost: Sequence[LostVolume]
) -> Iterator[Finding]:
    """Yield why nothing may take the place of the lost volumes yet."""
    for volume in lost:
        if _is_orphaned(storage, volume.device):
            yield Finding(
                f"the kernel still has {volume}, and LVM does not list it",
                "a volume with its disk: otherwise whoever uses it gets errors",
                "`pvs` and `dmesg` show what happened to the disk; if it is gone, reboot the host, and run again",
            )
        elif not _reason_to_replace(settings):
            empty = ", but for an empty one from a run that did not end" if _listed(storage, volume.device) else ""
            verb = "names" if len(volume.named_by) == 1 else "name"
            ended = _OFF_THE_VOLUME.get(_phase(settings, state, volume))
            yield Finding(
                f"{volume} is not there{empty}; {_joined(volume.named_by)} {verb} it",
                f"the volume, or its owner's word that nobody needs it: {ended}, and the data is on the root disk"
                if ended
                else "the volume with its data: a new one in its place would make it harder to bring back",
                f"{_attaching(state)}{_renaming(settings, state, storage, volume)}{_restoring(volume)}"
                f"{_old_data(settings, state, volume)}; only if {'nobody needs it' if ended else 'its data is gone for good'}, "
                "set replace_lost_volumes = True, which makes a new, empty volume",
            )
        elif keep_docker_down(settings, state, [volume]):
            yield from _judge_data_behind(state, storage)


def keep_docker_down(settings: Settings, state: HostState, lost: Sequence[LostVolume]) -> bool:
    """Return whether Docker does not run for want of its volume. Its data cannot move then.

    After a move that failed or was rolled back Docker needs no volume: its data is on the root disk, and is all there is.
    """
    runs = state.storage_driver or state.docker_hangs
    return state.fails_closed and not runs and any(_is_dockers(volume, settings) for volume in lost)


def _reason_to_replace(settings: Settings) -> str:
    """Return the setting by which a new volume may take the place of a lost one; empty where none does."""
    return next((name for name in ("replace_lost_volumes", "volume_ephemeral") if getattr(settings, name)), "")


def _is_dockers(volume: LostVolume, settings: Settings) -> bool:
    return volume.mount == settings.volume_mount


def _phase(settings: Settings, state: HostState, volume: LostVolume) -> str:
    """Return the phase of the move onto a volume; empty where there was none."""
    return state.relocation if _is_dockers(volume, settings) else state.moves.get(move_journal(volume.mount), "")


def _joined(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _attaching(state: HostState) -> str:
    """Return how to bring the disk back, as the beginning of a sentence."""
    if not state.configured_file:
        return "attach its disk again"
    return f"put its disk back, {VOLUME_FILE}: `systemctl status {VOLUME_FILE_SERVICE}` on the host says what is wrong with it"


def _renaming(settings: Settings, state: HostState, storage: Storage, volume: LostVolume) -> str:
    """Return how to undo that somebody renamed it, as a part of a sentence; empty where no volume may be that one."""
    known = (settings.logical_volume, *settings.extra_volumes)
    configured = (state.configured_volume, *state.configured_extra_volumes.values())
    renamed = [
        v
        for v in storage.logical_volumes
        if TAG in v.tags
        and not v.origin
        and v.name not in known
        # One that is in use elsewhere, or was, is another volume.
        and v.mapper_path not in configured
        and {mount.target for mount in storage.mounts_of(v.mapper_path)} <= {volume.mount, *STORES.values()}
        and not fstab_entries_of(storage, v.mapper_path)
    ]
    ways = " or ".join(f"`lvrename {v.volume_group} {v.name} {volume.name}`" for v in renamed)
    return f"; if somebody renamed it, {ways}" if ways else ""


def _restoring(volume: LostVolume) -> str:
    names = names_in(volume.device)
    if names is None:
        return ""
    return (
        f"; if somebody removed the volume, `vgcfgrestore --list {names[0]}` shows what LVM can restore, as long as nothing "
        "has overwritten it"
    )


def _old_data(settings: Settings, state: HostState, volume: LostVolume) -> str:
    """Return what is left of the data from before a move, as a part of a sentence; empty where nothing is."""
    is_adopted = volume.device.startswith(ADOPTED_NAMES) or (_is_dockers(volume, settings) and state.configured_options)
    if _phase(settings, state, volume) != "done" or is_adopted:  # the one copy is on it
        return ""
    if _is_dockers(volume, settings):
        return "; `bulkhead rollback` on the host goes back to the data from before the move"
    return f"; the files from before the move are still in {volume.mount}, and a new volume gets them"


def _judge_data_behind(state: HostState, storage: Storage) -> Iterator[Finding]:
    """Yield which data on the root disk a new volume would hide: Docker is down, so the data cannot move onto it."""
    data = {DOCKER_STORE: state.docker_data, CONTAINERD_STORE: state.containerd_data}
    held = [path for path, content in data.items() if content.any and storage.mount(path) is None]
    if not held:
        return
    # What is immutable in it stays so. An older copy of that name is no place to move into.
    move = " && ".join(f"chattr -f -i {path}; mv -T {path} {path}.kept" for path in held)
    yield Finding(
        f"Docker is down without its volume, and the root disk holds its data: {state.docker_data}; containerd: "
        f"{state.containerd_data}",
        "no data there: the new volume would hide it",
        "`bulkhead rollback` on the host goes back to this data, which is from before the move; then run again"
        if state.relocation == "done"
        else f"keep it in another place (`{move}`), and run again",
    )


def lost_volume_warnings(settings: Settings, lost: Sequence[LostVolume]) -> Iterator[str]:
    """Yield which volumes are given up, or that the permission for it is no longer needed."""
    for volume in lost:
        if reason := _reason_to_replace(settings):
            yield f"{volume} is given up, as {reason} says: a new, empty one takes its place"
    if settings.replace_lost_volumes and not lost:
        yield (
            "replace_lost_volumes is set, and no volume is lost: take it out of the settings, or a disk that is only "
            "detached counts as gone the next time"
        )
