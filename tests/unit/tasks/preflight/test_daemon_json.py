"""The daemon.json that a host has: what can stay beside our keys, and what Docker would do with the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tasks.preflight.daemon_json import log_driver, planned_keys
from tasks.preflight.host import EngineData, HostState
from tasks.support import daemon_keys

from ..example_hosts import converged, docker_host, settings, shared_vg
from .verdicts import all_found, assert_says, finding, plan_of


def host_with(keys: dict[str, Any], applied: dict[str, Any] | None = None, **changes: Any) -> HostState:
    """A host whose daemon.json has these keys, of which this project wrote some."""
    ours = json.dumps(applied) if applied is not None else ""
    return docker_host(daemon_json=json.dumps(keys), daemon_json_applied=ours, **changes)


@pytest.mark.parametrize(
    "text", ["\ufeff{}", " \n", "null", '{"runtimes": null, "builder": null, "log-driver": null, "userns-remap": ""}']
)
def test_file_that_dockerd_reads_is_no_obstacle(text: str) -> None:
    plan_of(docker_host(daemon_json=text), shared_vg())


@pytest.mark.parametrize(
    ("keys", "found_has", "needed"),
    [
        ({"runtimes": ["hunter2"]}, "cannot read: runtimes", "a dictionary as runtimes: Docker does not start"),
        ({"runtimes": {"kata": "hunter2"}}, "cannot read: runtimes.kata", "a dictionary as runtimes.kata"),
        ({"builder": {"gc": "hunter2"}}, "cannot read: builder.gc", "a dictionary as builder.gc"),
        (
            {"log-opts": {"token": 7}, "debug": "hunter2"},
            "cannot read: log-opts.token, debug",
            "true or false as debug",
        ),
        ({"data-root": ["hunter2"]}, "cannot read: data-root", "text as data-root"),
        ({"features": ["hunter2"]}, "cannot read: features", "a dictionary as features"),
    ],
)
def test_wrong_types_are_refused_by_name_and_without_their_values(
    keys: dict[str, Any], found_has: str, needed: str
) -> None:
    found = finding(host_with(keys), shared_vg())
    assert_says(found, found_has=found_has, needed=needed, action="correct these keys in /etc/docker/daemon.json")
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    "obstacle", ["a symbolic link to /mnt/daemon.json, which does not exist", "immutable, in an immutable directory"]
)
def test_file_that_cannot_be_replaced_is_refused(obstacle: str) -> None:
    found = finding(docker_host(daemon_json_obstacle=obstacle), shared_vg())
    assert_says(found, found_has=f"daemon.json is {obstacle}", needed="can replace", action="chattr -i")


@pytest.mark.parametrize("obstacle", ["immutable, in an immutable directory", "a mount point"])
def test_file_that_needs_no_change_may_be_one_that_cannot_be_replaced(obstacle: str) -> None:
    fresh = plan_of(docker_host(), shared_vg())
    whole, ours = converged(shared_vg(), fresh), planned_keys(settings(), fresh)

    def host(**own: Any) -> HostState:
        current = daemon_keys.text({**ours, **own})
        applied = daemon_keys.text(ours)
        return docker_host(daemon_json=current, daemon_json_applied=applied, daemon_json_obstacle=obstacle)

    assert plan_of(host(), whole) == fresh
    assert plan_of(host(mtu=1400), whole) == fresh  # a key of the host's own
    # Neither what others have changed nor what the settings change can be written.
    for state, wanted in (
        (host(debug=True), settings(daemon_json={"debug": False})),
        (host(**{"live-restore": False}), settings()),
        (host(), settings(log_max_file=7)),
        (replace(host(), daemon_json_applied=""), settings()),
    ):
        assert_says(finding(state, whole, wanted), found_has=obstacle, needed="can replace", action="chattr -i")


@pytest.mark.parametrize("text", ["{nonsense", '{"log-opts": "x"}', '{"builder": {"gc": 1}}'])
@pytest.mark.parametrize("name", ["daemon_json", "daemon_json_applied"])
def test_file_that_cannot_be_replaced_is_found_beside_one_that_cannot_be_read(name: str, text: str) -> None:
    found = all_found(settings(), shared_vg(), docker_host(daemon_json_obstacle="a mount point", **{name: text}))
    assert "/etc/docker/daemon.json is a mount point" in found


def test_file_that_cannot_be_replaced_is_found_where_the_volume_cannot_be_planned() -> None:
    state = docker_host(daemon_json_obstacle="a mount point")
    assert "/etc/docker/daemon.json is a mount point" in all_found(settings(), shared_vg(free=0), state)
    ours = replace(state, daemon_json_applied="{}")
    assert "/etc/docker/daemon.json is a mount point" not in all_found(settings(), shared_vg(free=0), ours)


# -- logs

OTHERS = ["local", "journald", "awslogs", "fluentd", "none"]


@pytest.mark.parametrize("driver", OTHERS)
def test_another_log_driver_is_refused_with_the_setting_that_leaves_it(driver: str) -> None:
    found = finding(host_with({"log-driver": driver, "log-opts": {"token": "hunter2"}}), shared_vg())
    assert_says(
        found,
        found_has=f"the log driver {driver}",
        needed="json-file, as log_driver asks",
        action='log_driver = "keep"',
    )
    assert "hunter2" not in str(found)


def test_another_log_driver_is_refused_for_local_too() -> None:
    found = finding(host_with({"log-driver": "journald"}), shared_vg(), settings(log_driver="local"))
    assert_says(found, found_has="the log driver journald", needed="local, as log_driver asks", action="keep")


@pytest.mark.parametrize("driver", OTHERS)
def test_another_log_driver_is_kept_with_a_warning(driver: str) -> None:
    state, keep = host_with({"log-driver": driver, "log-opts": {"token": "hunter2"}}), settings(log_driver="keep")
    warning = (
        f'the log driver {driver} of /etc/docker/daemon.json stays (log_driver = "keep"): log_max_size and log_max_file do '
        "not limit its logs"
    )
    assert plan_of(state, shared_vg(), keep, warnings=(warning,)).log_driver == ""


@pytest.mark.parametrize("keys", [{}, {"log-driver": ""}, {"log-driver": "json-file", "log-opts": {"max-size": "1g"}}])
@pytest.mark.parametrize(("wanted", "gets"), [("keep", "json-file"), ("json-file", "json-file"), ("local", "local")])
def test_host_with_dockers_default_gets_the_driver_of_the_settings(
    keys: dict[str, Any], wanted: str, gets: str
) -> None:
    assert plan_of(host_with(keys), shared_vg(), settings(log_driver=wanted)).log_driver == gets


@pytest.mark.parametrize("wanted", ["json-file", "local", "keep"])
@pytest.mark.parametrize("before", ["json-file", "local"])
def test_driver_that_we_wrote_is_nobody_elses(before: str, wanted: str) -> None:
    state = host_with({"log-driver": before}, applied={"log-driver": before})
    gets = "json-file" if wanted == "keep" else wanted
    assert plan_of(state, shared_vg(), settings(log_driver=wanted)).log_driver == gets


@pytest.mark.parametrize("driver", ["journald", "syslog"])
def test_driver_that_somebody_has_put_in_the_place_of_ours_is_theirs(driver: str) -> None:
    state = host_with({"log-driver": driver}, applied={"log-driver": "json-file"})
    assert f"the log driver {driver}" in finding(state, shared_vg()).found
    assert log_driver(settings(log_driver="keep"), state) == ""


@pytest.mark.parametrize(
    ("options", "wanted", "name", "why"),
    [
        ({"compress": "true"}, {"log_max_file": 1}, "log-opts.compress", "no new container starts"),
        ({"compress": "hunter2"}, {}, "log-opts.compress", "no new container starts"),
        ({"tag": "x"}, {"log_driver": "local"}, "log-opts.tag", "Docker does not start"),
        ({"gelf-address": "x"}, {}, "log-opts.gelf-address", "Docker does not start"),
    ],
)
def test_log_options_of_others_that_do_not_fit_are_refused(
    options: dict[str, str], wanted: dict[str, Any], name: str, why: str
) -> None:
    found = finding(host_with({"log-opts": options}), shared_vg(), settings(**wanted))
    assert_says(found, found_has=f"sets {name}", needed=why, action="remove it from /etc/docker/daemon.json")
    assert "hunter2" not in str(found)


def test_log_options_of_others_that_our_keys_replace_are_no_obstacle() -> None:
    one_file = settings(log_driver="local", log_max_file=1)
    assert plan_of(host_with({"log-opts": {"compress": "true", "max-file": "9"}}), shared_vg(), one_file)


# -- storage, users, build cache


def test_size_of_containers_that_needs_quotas_is_refused_with_what_docker_would_do() -> None:
    found = finding(host_with({"storage-opts": ["overlay2.size=10G"]}), shared_vg())
    assert_says(
        found,
        found_has="overlay2.size",
        needed="Docker does not start with it: it needs xfs with pquota",
        action="remove it",
    )


@pytest.mark.parametrize(
    "on_containerds_store",
    [
        {"containerd_store": True, "storage_driver": "overlayfs", "containerd_data": EngineData(images=1)},
        {"storage_driver": "", "containerd_data": EngineData(images=1)},
    ],
    ids=["running", "stopped"],
)
def test_storage_options_are_no_obstacle_where_docker_does_not_read_them(on_containerds_store: dict[str, Any]) -> None:
    whole = converged(shared_vg(), plan_of(docker_host(), shared_vg()))
    for option in ("overlay2.size=10G", "dm.basesize=20G"):
        assert plan_of(host_with({"storage-opts": [option]}, **on_containerds_store), whole).containerd_store


@pytest.mark.parametrize("root", ["/var/lib/docker", "/var/lib/docker/100000.100000"])
def test_users_that_are_remapped_are_one_finding_with_the_way_to_go(root: str) -> None:
    found = finding(host_with({"userns-remap": "default"}, data_root=root), shared_vg())
    assert_says(found, found_has="userns-remap", needed="another data root", action="`docker save`")


@pytest.mark.parametrize("root", ["/data", "/var/lib/docker2"])
def test_data_root_elsewhere_is_found_beside_remapped_users(root: str) -> None:
    found = finding(host_with({"data-root": root}, data_root="/var/lib/docker"), shared_vg())
    assert_says(found, found_has=root, needed="default", action="remove data-root")


@pytest.mark.parametrize("gc", [{"policy": [{"all": True}]}, {"Policy": []}])
@pytest.mark.parametrize("name", ["gc", "GC"])
def test_policy_of_the_build_cache_is_replaced_with_a_warning(name: str, gc: dict[str, Any]) -> None:
    warning = (
        "builder.gc.policy of /etc/docker/daemon.json would put the limits of the build cache out of force: builder.gc is "
        "replaced by what follows from build_cache_size"
    )
    plan_of(host_with({"builder": {name: gc}}), shared_vg(), warnings=(warning,))


def test_garbage_collection_without_a_policy_is_replaced_without_a_warning() -> None:
    plan_of(host_with({"builder": {"gc": {"enabled": True}, "history": {}}}), shared_vg())
    plan_of(host_with({"builder": {"gc": None}}), shared_vg())
    for key in ("a-newer-key", "z-newer-key"):
        plan_of(host_with({"builder": {"gc": {key: True}}}), shared_vg())
