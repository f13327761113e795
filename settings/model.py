"""The settings, typed and checked. Their defaults and what they mean are in inventory/group_data/all.py alone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from bulkhead.sizes import Size
from settings import fields


class ExtraVolume(BaseModel):
    """A further volume, for a directory of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    mount: Annotated[str, AfterValidator(fields.extra_mount_point)]
    size: Annotated[Size, AfterValidator(fields.at_least_the_minimum), BeforeValidator(fields.size("VG"))]
    filesystem: Literal["ext4", "xfs"] = "ext4"


class Settings(BaseModel):
    """The settings of one host. What each means is in inventory/group_data/all.py."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    volume_group: Annotated[str, AfterValidator(fields.lvm_name)]
    volume_disks: Annotated[list[Annotated[str, AfterValidator(fields.device)]], AfterValidator(fields.distinct)]
    volume_group_extend: bool
    logical_volume: Annotated[str, AfterValidator(fields.lvm_name), AfterValidator(fields.not_reserved)]
    volume_size: Annotated[Size | None, BeforeValidator(fields.volume_size)]
    volume_reserve: Annotated[Size, BeforeValidator(fields.reserve)]
    filesystem: Literal["ext4", "xfs"]
    volume_mount: Annotated[str, AfterValidator(fields.mount_point)]
    adopt_volume: bool
    extra_volumes: dict[
        Annotated[str, AfterValidator(fields.lvm_name), AfterValidator(fields.not_reserved)], ExtraVolume
    ]
    engine_source: Literal["auto", "docker-ce", "distro", "present"]
    engine_version: Annotated[
        str,
        AfterValidator(
            fields.matches(r"([0-9][A-Za-z0-9.+~-]*)?", 'a version such as "27.5.1" (without "5:"), or empty')
        ),
    ]
    engine_change: bool
    docker_repository: Annotated[str, AfterValidator(fields.repository)]
    docker_repository_fingerprint: Annotated[str, AfterValidator(fields.fingerprint)]
    docker_repository_key: Annotated[str, AfterValidator(fields.key)]
    docker_repository_channel: Literal["stable", "test"]
    engine_upgrade_stops_containers: bool
    apt_lock_timeout: Annotated[int, Field(ge=0, le=86400)]
    log_max_size: Annotated[str, AfterValidator(fields.matches(r"[1-9][0-9]*[kmg]", 'a size such as "10m": k, m or g'))]
    log_max_file: Annotated[int, Field(ge=1, le=1000)]
    live_restore: bool
    build_cache_size: Annotated[Size, BeforeValidator(fields.size(""))]
    daemon_json: Annotated[dict[str, Any], AfterValidator(fields.daemon_json)]
    relocation_patience: Annotated[int, Field(ge=0, le=86400)]
    relocation_finalize: bool
    check_interval: Literal[1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30]
    check_threshold: Annotated[int, Field(ge=10, le=99)]
    check_critical: Annotated[int, Field(ge=10, le=99)]
    check_hours_left: Annotated[int, Field(ge=1, le=720)]
    alert_receivers: Annotated[dict[str, str], AfterValidator(fields.receivers)]
    alert_reminder: Annotated[int, Field(ge=1, le=168)]
    metrics_directory: Annotated[str, AfterValidator(fields.directory)]
    journal_max_use: Annotated[str, AfterValidator(fields.journal_size)]
    prune_time: Annotated[
        str,
        AfterValidator(fields.matches(r"(([01][0-9]|2[0-3]):[0-5][0-9])?", 'a time of day such as "03:00", or empty')),
    ]
    prune_spread: Annotated[int, Field(ge=0, le=1439)]
    prune_hours: Annotated[int, Field(ge=1, le=8760)]
    prune_images_after_days: Annotated[int, Field(ge=0, le=3650)]
    prune_keep: list[
        Annotated[str, AfterValidator(fields.matches(r"\S+", "a name or a pattern of names, without blanks"))]
    ]
    guard: bool
    guard_floor: Annotated[Size | None, BeforeValidator(fields.floor)]
    guard_ballast: Annotated[Size | None, BeforeValidator(fields.ballast)]
    guard_stop_pulls: bool
    guard_rescue: bool
    snapshot_max_hours: Annotated[int, Field(ge=1, le=720)]
    nvidia: Annotated[Literal["auto"] | bool, BeforeValidator(fields.auto_or_bool)]
    nvidia_version: Annotated[str, AfterValidator(fields.toolkit_version)]
    nvidia_default_runtime: bool
    nvidia_repository: Annotated[str, AfterValidator(fields.address)]
    nvidia_repository_fingerprint: Annotated[str, AfterValidator(fields.fingerprint)]
    nvidia_repository_key: Annotated[str, AfterValidator(fields.key)]
    allow_unsupported_release: bool
