"""The settings of a host, typed. inventory/group_data/all.py has their defaults and explains them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from bulkhead.sizes import Size
from settings import fields

Filesystem = Literal["ext4", "xfs"]
LogicalVolumeName = Annotated[str, AfterValidator(fields.check_lvm_name), AfterValidator(fields.check_not_reserved)]


class ExtraVolume(BaseModel):
    """An extra volume, for a directory of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    mount: Annotated[str, AfterValidator(fields.check_extra_mount_point)]
    size: Annotated[Size, AfterValidator(fields.check_volume_minimum), BeforeValidator(fields.size_parser("VG"))]
    filesystem: Filesystem = "ext4"


class Settings(BaseModel):
    """The settings of one host. inventory/group_data/all.py explains each of them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    volume_group: Annotated[str, AfterValidator(fields.check_lvm_name)]
    volume_disks: Annotated[
        list[Annotated[str, AfterValidator(fields.check_disk_path)]],
        AfterValidator(fields.check_disks),
        BeforeValidator(fields.parse_disks),
    ]
    volume_disk_minimum: Annotated[Size, BeforeValidator(fields.size_parser())]
    volume_file: Annotated[Size | None, BeforeValidator(fields.parse_volume_file)]
    volume_file_keep: Annotated[Size, BeforeValidator(fields.parse_reserve)]
    volume_group_extend: bool
    volume_group_grow: bool
    allow_ephemeral_disks: bool
    volume_ephemeral: bool
    volume_raid: Literal["", "raid0", "raid1"]
    logical_volume: LogicalVolumeName
    volume_size: Annotated[Size | None, BeforeValidator(fields.parse_volume_size)]
    volume_reserve: Annotated[Size, BeforeValidator(fields.parse_reserve)]
    filesystem: Filesystem
    volume_bytes_per_inode: Annotated[int | None, BeforeValidator(fields.parse_bytes_per_inode)]
    volume_mount_options: list[Annotated[str, AfterValidator(fields.check_mount_option)]]
    volume_mount: Annotated[str, AfterValidator(fields.check_mount_point)]
    adopt_volume: bool
    adopt_filesystem: bool
    replace_lost_volumes: bool
    extra_volumes: dict[LogicalVolumeName, ExtraVolume]
    engine_source: Literal["auto", "docker-ce", "distro", "present"]
    engine_version: Annotated[str, AfterValidator(fields.check_engine_version)]
    engine_change: bool
    docker_repository: Annotated[str, AfterValidator(fields.parse_repository)]
    docker_repository_fingerprint: Annotated[str, AfterValidator(fields.parse_fingerprint)]
    docker_repository_key: Annotated[str, AfterValidator(fields.parse_key_address)]
    docker_repository_channel: Literal["stable", "test"]
    engine_upgrade_stops_containers: bool
    apt_lock_timeout: Annotated[int, Field(ge=0, le=86400)]
    log_driver: Literal["json-file", "local", "keep"]
    log_max_size: Annotated[str, AfterValidator(fields.check_log_size)]
    log_max_file: Annotated[int, Field(ge=1, le=1000)]
    live_restore: bool
    build_cache_size: Annotated[Size, BeforeValidator(fields.size_parser(""))]
    daemon_json: Annotated[dict[str, Any], AfterValidator(fields.parse_daemon_json)]
    docker_start_limit: Annotated[int | None, BeforeValidator(fields.parse_start_limit)]
    relocation: Literal["move", "refuse"]
    relocation_patience: Annotated[int, Field(ge=0, le=86400)]
    relocation_finalize: bool
    check_interval: Literal[1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30]
    check_threshold: Annotated[int, Field(ge=10, le=99)]
    check_critical: Annotated[int, Field(ge=10, le=99)]
    check_hours_left: Annotated[int, Field(ge=1, le=720)]
    alert_receivers: Annotated[dict[str, str], AfterValidator(fields.check_receivers)]
    alert_reminder: Annotated[int, Field(ge=1, le=168)]
    metrics_directory: Annotated[str, AfterValidator(fields.check_directory)]
    journal_max_use: Annotated[str, AfterValidator(fields.check_journal_size)]
    prune_time: Annotated[str, AfterValidator(fields.check_time_of_day)]
    prune_spread: Annotated[int, Field(ge=0, le=1439)]
    prune_hours: Annotated[int, Field(ge=1, le=8760)]
    prune_images_after_days: Annotated[int, Field(ge=0, le=3650)]
    prune_anonymous_volumes: bool
    prune_keep: list[Annotated[str, AfterValidator(fields.check_name_pattern)]]
    guard: bool
    guard_floor: Annotated[Size | None, BeforeValidator(fields.parse_floor)]
    guard_ballast: Annotated[Size | None, BeforeValidator(fields.parse_ballast)]
    guard_stop_pulls: bool
    guard_rescue: bool
    snapshot_max_hours: Annotated[int, Field(ge=1, le=720)]
    nvidia: Annotated[Literal["auto"] | bool, BeforeValidator(fields.check_auto_or_bool)]
    nvidia_version: Annotated[str, AfterValidator(fields.check_toolkit_version)]
    nvidia_default_runtime: bool
    nvidia_repository: Annotated[str, AfterValidator(fields.parse_address)]
    nvidia_repository_fingerprint: Annotated[str, AfterValidator(fields.parse_fingerprint)]
    nvidia_repository_key: Annotated[str, AfterValidator(fields.parse_key_address)]
    allow_unsupported_release: bool

    @property
    def takes_ephemeral_disks(self) -> bool:
        """Whether a disk that the cloud empties may be Docker's."""
        return self.allow_ephemeral_disks or self.volume_ephemeral
