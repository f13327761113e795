"""What the capabilities ask of a host. Preflight asks it in its command: a run that changes nothing asks nothing else."""

from __future__ import annotations

from pyinfra.facts.files import FileContents

from bulkhead.names import PROGRAM_CONFIGURATION, RECEIVERS, VOLUME_FILE_SERVICE
from pyinfra_lvm.collection import Question
from settings.model import Settings
from tasks.daemon import DaemonJson
from tasks.engine import EngineInstallation
from tasks.program import InstalledProgram
from tasks.support.files import FileStates
from tasks.support.package_names import ENGINE_WHERE_OFFERED, every_name
from tasks.support.packages import PackageStates
from tasks.support.paths import (
    CHECK_CRON,
    CHECK_DISK,
    DOCKER_KEY,
    DOCKER_SOURCE,
    DROP_INS,
    EPHEMERAL_SCRIPT,
    EPHEMERAL_SERVICE,
    EPHEMERAL_UNIT,
    JOURNALD,
    JOURNALD_DROP_IN,
    MIRROR_SCRIPT,
    MIRROR_SERVICE,
    MIRROR_UNIT,
    UNITS,
    VOLUME_FILE_FILES,
)
from tasks.support.repository import RepositoryEntry
from tasks.support.units import SystemdFiles
from tasks.volume import VolumeContents
from tasks.watch import JournalLimits


def of_capabilities(settings: Settings) -> list[Question]:
    """Return what every capability asks of a host that is as it should be."""
    packages, offered = list(every_name()), list(ENGINE_WHERE_OFFERED.get(settings.engine_source, ()))
    unit_files = [*UNITS.values(), *DROP_INS.values(), *VOLUME_FILE_FILES, MIRROR_UNIT, MIRROR_SCRIPT]
    unit_files += [EPHEMERAL_UNIT, EPHEMERAL_SCRIPT]
    units = [*UNITS, *DROP_INS, VOLUME_FILE_SERVICE, MIRROR_SERVICE, EPHEMERAL_SERVICE]
    return [
        Question(PackageStates, {"packages": packages}),
        Question(EngineInstallation, {"packages": packages, "where_offered": offered}),
        Question(RepositoryEntry, {"source": DOCKER_SOURCE, "key": DOCKER_KEY}),
        Question(VolumeContents, {"volume": settings.volume_mount}),
        Question(FileContents, {"path": PROGRAM_CONFIGURATION}),
        Question(InstalledProgram, {}),
        Question(DaemonJson, {}),
        Question(SystemdFiles, {"paths": unit_files, "units": units}),
        Question(FileStates, {"paths": [CHECK_DISK, CHECK_CRON, RECEIVERS], "service": ""}),
        Question(FileStates, {"paths": [JOURNALD_DROP_IN], "service": JOURNALD}),
        Question(JournalLimits, {}),
    ]
