"""daemon.json as dockerd reads it, in moby's daemon/config, daemon/logger and overlay2."""

from __future__ import annotations

import codecs
import contextlib
from typing import Any

import pytest

from settings.daemon_json import bad_log_options, bad_storage_options, decode, log_limits, parse, wrong_types

from ..cases import DAEMON_JSONS, DaemonJsonCase

TEXT = '{"debug": true, "labels": ["größe=5"]}'
KEYS = {"debug": True, "labels": ["größe=5"]}


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        f"\n\t {TEXT} \n".encode(),
        codecs.BOM_UTF8 + f"\r\n{TEXT}\r\n".encode(),
    ],
    ids=["plain", "UTF-8 mark", "UTF-16 LE", "UTF-16 BE", "blanks", "mark and blanks"],
)
def test_byte_order_mark_and_blanks_are_read_as_dockerd_reads_them(data: bytes) -> None:
    assert parse(decode(data)) == KEYS


@pytest.mark.parametrize("case", DAEMON_JSONS, ids=str)
def test_file_that_dockerd_cannot_read_is_none_for_us(case: DaemonJsonCase) -> None:
    root = None
    with contextlib.suppress(ValueError):
        keys = parse(decode(case.content))
        root = None if dict(wrong_types(keys)) else keys.get("data-root") or keys.get("graph", "")
    assert root == case.root


def test_message_about_a_file_that_cannot_be_read_shows_nothing_of_it() -> None:
    with pytest.raises(ValueError, match=r"^not a JSON object$") as found:
        parse('{"log-opts": {"splunk-token": hunter2}}')
    assert found.value.__cause__ is None


def test_key_that_is_null_is_not_set() -> None:
    assert parse('{"runtimes": null, "debug": true}') == {"debug": True}


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        ({"runtimes": []}, {"runtimes": "a dictionary"}),
        ({"runtimes": {"kata": "/opt/kata"}}, {"runtimes.kata": "a dictionary"}),
        ({"features": {"cdi": "true"}}, {"features.cdi": "true or false"}),
        ({"log-opts": {"max-size": 10, "tag": "x"}}, {"log-opts.max-size": "text"}),
        ({"builder": {"gc": [], "history": {}}}, {"builder.gc": "a dictionary"}),
        ({"builder": {"GC": True}}, {"builder.GC": "a dictionary"}),
        ({"live-restore": "true"}, {"live-restore": "true or false"}),
        ({"storage-opts": "overlay2.size=10G"}, {"storage-opts": "a list of text"}),
        ({"dns": [1]}, {"dns": "a list of text"}),
        ({"default-address-pools": [{}, 1]}, {"default-address-pools": "a list of dictionaries"}),
        ({"default-address-pools": {}}, {"default-address-pools": "a list of dictionaries"}),
        ({"mtu": True}, {"mtu": "a whole number"}),
        ({"mtu": 1500.0}, {"mtu": "a whole number"}),
        ({"log-driver": None}, {"log-driver": "text"}),
        ({"debug": 1, "data-root": []}, {"debug": "true or false", "data-root": "text"}),
    ],
    ids=str,
)
def test_wrong_types_are_named_with_the_right_one(keys: dict[str, Any], wrong: dict[str, str]) -> None:
    assert dict(wrong_types(keys)) == wrong


@pytest.mark.parametrize(
    "keys",
    [
        {"no-such-key": object()},  # dockerd itself refuses it, or a newer one knows it
        {"a-newer-key": {"gc": True}, "builder": {"entitlements": True}},
        {"default-address-pools": [{"base": "10.0.0.0/8", "size": 24}]},
        {"default-shm-size": "64M"},
        {"default-shm-size": 67108864},
        {"runtimes": {"kata": {"path": "/opt/kata"}}, "builder": {"gc": None}, "mtu": 1500, "dns": ["192.0.2.1"]},
    ],
    ids=str,
)
def test_types_that_dockerd_reads_and_keys_that_we_do_not_know_pass(keys: dict[str, Any]) -> None:
    assert list(wrong_types(keys)) == []


@pytest.mark.parametrize(
    ("option", "name", "why"),
    [
        ("overlay2.size=10G", "storage-opts overlay2.size", "xfs with pquota"),
        (" Overlay2.Size =10G", "storage-opts overlay2.size", "xfs with pquota"),
        ("dm.basesize=20G", "storage-opts dm.basesize", "no such option"),
        ("zfs.fsname=tank", "storage-opts zfs.fsname", "no such option"),
    ],
)
def test_storage_options_with_which_docker_does_not_start(option: str, name: str, why: str) -> None:
    ((found, reason),) = bad_storage_options({"storage-opts": ["overlay2.override_kernel_check=true", option]})
    assert found == name
    assert reason.startswith("Docker does not start with it: ")
    assert why in reason


@pytest.mark.parametrize("driver", ["json-file", "local"])
@pytest.mark.parametrize(
    ("files", "compress", "is_bad"), [(1, "true", True), (1, "T", True), (2, "true", False), (1, "0", False)]
)
def test_compress_needs_a_second_log_file(driver: str, files: int, compress: str, is_bad: bool) -> None:
    found = dict(bad_log_options(driver, log_limits(driver, "10m", files) | {"compress": compress}))
    assert list(found) == (["log-opts.compress"] if is_bad else [])
    assert all(why.startswith("no new container starts with it") for why in found.values())


def test_compress_that_is_no_boolean_of_go_is_refused() -> None:
    assert "log-opts.compress" in dict(
        bad_log_options("json-file", log_limits("json-file", "10m", 3) | {"compress": "yes"})
    )


def test_local_compresses_by_default_and_not_with_one_file() -> None:
    assert log_limits("local", "10m", 3) == {"max-size": "10m", "max-file": "3"}
    assert log_limits("local", "10m", 1) == {"max-size": "10m", "max-file": "1", "compress": "false"}
    assert log_limits("json-file", "10m", 1) == {"max-size": "10m", "max-file": "1"}


@pytest.mark.parametrize(
    ("driver", "option", "is_bad"),
    [
        ("json-file", "labels", False),
        ("json-file", "mode", False),
        ("json-file", "cache-disabled", False),
        ("json-file", "awslogs-group", True),
        ("local", "labels", True),
        ("local", "max-buffer-size", False),
    ],
)
def test_option_that_the_log_driver_does_not_know_is_refused(driver: str, option: str, is_bad: bool) -> None:
    found = list(bad_log_options(driver, log_limits(driver, "10m", 3) | {option: "x"}))
    assert [name for name, _ in found] == ([f"log-opts.{option}"] if is_bad else [])
