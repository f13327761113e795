"""daemon.json: ours, the user's and the host's own keys in one file."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import FactProcessError

from tasks import daemon
from tasks.daemon import DaemonJson, DaemonJsonFiles, differences, names
from tasks.support.daemon_keys import merged, our_keys, wanted, without
from tasks.support.gpu import GpuContainers
from tasks.support.paths import DAEMON_JSON, DAEMON_JSON_APPLIED, DOCKER_PATIENCE

from .example_hosts import settings
from .operations import OperationHost, contents_sent, performed, shell, stand_in

G = 2**30


def keys(*, nvidia: bool = False, driver: str = "json-file", **changes: Any) -> dict[str, Any]:
    return our_keys(settings(**changes), 60 * G, nvidia=nvidia, log_driver=driver)


def test_limits_of_the_build_cache_are_a_part_of_the_volume() -> None:
    collected = keys()["builder"]["gc"]
    assert collected["enabled"] is True
    assert collected["defaultKeepStorage"] == collected["defaultMaxUsedSpace"] == "12288MB"


def test_keys_of_this_project_are_these() -> None:
    assert keys() == {
        "storage-driver": "overlay2",
        "log-driver": "json-file",
        "log-opts": {"max-size": "10m", "max-file": "3"},
        "live-restore": True,
        "features": {"buildkit": True, "containerd-snapshotter": False},
        "builder": {
            "gc": {
                "enabled": True,
                "defaultKeepStorage": "12288MB",
                "defaultReservedSpace": "6144MB",
                "defaultMaxUsedSpace": "12288MB",
                "defaultMinFreeSpace": "6144MB",
            }
        },
    }
    assert keys(live_restore=False, build_cache_size="8G")["live-restore"] is False
    assert keys(build_cache_size="8G")["builder"]["gc"]["defaultMaxUsedSpace"] == "8192MB"


def test_engine_whose_images_are_in_containerds_store_keeps_them_there() -> None:
    written = our_keys(settings(), 60 * G, containerd_store=True)
    assert written["features"]["containerd-snapshotter"] is True
    assert "storage-driver" not in written


def test_log_options_are_strings_as_docker_wants_them() -> None:
    assert keys(log_max_file=5)["log-opts"] == {"max-size": "10m", "max-file": "5"}


def test_users_keys_are_merged_in_object_by_object() -> None:
    written = keys(daemon_json={"log-opts": {"labels": "team"}, "debug": True})
    assert written["log-opts"] == {"max-size": "10m", "max-file": "3", "labels": "team"}
    assert written["debug"] is True


def test_key_that_the_host_had_before_us_stays() -> None:
    assert wanted({"a": 1}, {"mirror": "x", "o": {"theirs": 1}}, {}) == {"a": 1, "mirror": "x", "o": {"theirs": 1}}


def test_key_that_we_wrote_and_no_longer_want_goes() -> None:
    assert wanted({"a": 1}, {"a": 1, "b": 2, "theirs": 3}, {"a": 1, "b": 2}) == {"a": 1, "theirs": 3}


def test_key_inside_an_object_that_we_no_longer_want_goes() -> None:
    applied = {"log-opts": {"max-size": "10m", "labels": "team"}}
    current = {"log-opts": {"max-size": "10m", "labels": "team", "env": "theirs"}}
    ours = {"log-opts": {"max-size": "20m"}}
    assert wanted(ours, current, applied) == {"log-opts": {"max-size": "20m", "env": "theirs"}}


def test_ours_holds_where_both_have_a_say() -> None:
    assert wanted({"log-driver": "json-file"}, {"log-driver": "journald"}, {})["log-driver"] == "json-file"


def test_second_time_is_the_same() -> None:
    first = wanted(keys(), {"theirs": 1}, {})
    assert first["theirs"] == 1
    assert wanted(keys(), first, keys()) == first


def test_without_and_merged_undo_each_other() -> None:
    assert without(merged({"theirs": {"a": 1}}, {"theirs": {"b": 2}}), {"theirs": {"b": 2}}) == {"theirs": {"a": 1}}


# -- logs


def test_local_has_the_same_limits() -> None:
    written = keys(driver="local", log_driver="local")
    assert written["log-driver"] == "local"
    assert written["log-opts"] == {"max-size": "10m", "max-file": "3"}
    assert keys(driver="local", log_driver="local", log_max_file=1)["log-opts"]["compress"] == "false"


JOURNALD = {"log-driver": "journald", "log-opts": {"tag": "{{.Name}}"}}


@pytest.mark.parametrize("applied", [{}, keys()], ids=["first run", "ours before"])
def test_log_driver_that_is_kept_keeps_its_options_and_gets_none_of_ours(applied: dict[str, Any]) -> None:
    ours = keys(driver="", log_driver="keep", daemon_json={"log-opts": {"labels": "team"}})
    assert not {"log-driver", "log-opts"} & ours.keys()
    result = wanted(ours, JOURNALD | {"theirs": 1}, applied)
    assert result == ours | JOURNALD | {"theirs": 1}
    assert wanted(ours, result, ours) == result


def test_our_log_driver_goes_whole_when_the_setting_changes_it() -> None:
    local = keys(driver="local", log_driver="local", log_max_file=1)
    assert wanted(keys(), local, local) == keys()


def test_log_driver_of_ours_is_gone_from_a_host_that_is_left_and_its_own_stays() -> None:
    assert wanted({}, keys(), keys()) == {}
    assert wanted({}, keys() | JOURNALD, keys()) == JOURNALD


# -- BuildKit's garbage collection

POLICY = {"policy": [{"keepStorage": "500GB", "all": True}]}


@pytest.mark.parametrize("name", ["gc", "GC"])
def test_policy_of_the_hosts_own_is_replaced_and_what_else_the_builder_has_stays(name: str) -> None:
    current = {"builder": {name: {"enabled": False} | POLICY, "history": {"maxEntries": 5}}}
    result = wanted(keys(), current, {})
    assert result["builder"] == keys()["builder"] | {"history": {"maxEntries": 5}}
    assert wanted(keys(), merged(keys(), {"builder": {"gc": POLICY}}), keys()) == keys()


def test_policy_that_is_replaced_is_reported() -> None:
    host = host_with({"builder": {"gc": POLICY}}, {})
    assert applied(host, keys()) == keys()
    assert host.logged[0] == "daemon.json: our keys replace keys of the host's own: builder.gc"


# -- GPUs

RUNTIME = {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}


def nvidia_ctk(config: dict[str, Any]) -> dict[str, Any]:
    """What `nvidia-ctk runtime configure --runtime docker --cdi.enabled` makes of a daemon.json."""
    return config | {"runtimes": {**config.get("runtimes", {}), **RUNTIME}, "features": {"cdi": True}}


def test_keys_for_gpus_are_those_of_nvidia_ctk() -> None:
    plain, with_gpus = keys(), keys(nvidia=True)
    assert without(with_gpus, plain) == {"runtimes": RUNTIME, "features": {"cdi": True}}
    assert without(plain, with_gpus) == {}
    assert without(keys(nvidia=True, nvidia_default_runtime=True), with_gpus) == {"default-runtime": "nvidia"}
    assert keys(nvidia_default_runtime=True) == plain, "a runtime that is not there would keep Docker from starting"


def test_runtimes_of_the_user_stand_beside_nvidias() -> None:
    other = {"kata": {"path": "/opt/kata"}}
    assert keys(nvidia=True, daemon_json={"runtimes": other})["runtimes"] == RUNTIME | other


THEIRS = {"nvidia": {"path": "/opt/other", "runtimeArgs": ["--debug"]}}
KATA = {"kata": {"path": "/opt/kata"}}


@pytest.mark.parametrize("others", [{}, KATA], ids=["alone", "beside another"])
@pytest.mark.parametrize("before", [{}, RUNTIME], ids=["never ours", "was ours"])
def test_runtime_of_the_hosts_own_is_replaced_whole_and_others_stay(
    others: dict[str, Any], before: dict[str, Any]
) -> None:
    applied = {"runtimes": before} if before else {}
    assert wanted({"runtimes": RUNTIME}, {"runtimes": THEIRS | others}, applied) == {"runtimes": RUNTIME | others}


def test_runtime_that_goes_leaves_no_half_of_it_behind() -> None:
    touched = {"nvidia": RUNTIME["nvidia"] | {"runtimeArgs": ["--debug"]}}
    assert wanted({}, {"runtimes": touched}, {"runtimes": RUNTIME}) == {}
    assert wanted({}, {"runtimes": touched | KATA}, {"runtimes": RUNTIME}) == {"runtimes": KATA}


def test_default_runtime_goes_with_its_runtime_whoever_has_set_it() -> None:
    current = {"runtimes": RUNTIME | KATA, "default-runtime": "nvidia"}
    for before in ({"runtimes": RUNTIME}, {"runtimes": RUNTIME, "default-runtime": "nvidia"}):
        assert wanted({}, current, before) == {"runtimes": KATA}


@pytest.mark.parametrize(
    ("default", "before"),
    [("kata", {"runtimes": RUNTIME}), ("runc", {"runtimes": RUNTIME}), ("nvidia", {})],
    ids=["of another runtime", "built in", "runtime stays"],
)
def test_default_runtime_of_the_hosts_own_stays_where_its_runtime_does(default: str, before: dict[str, Any]) -> None:
    current = {"runtimes": RUNTIME | KATA, "default-runtime": default}
    assert wanted({}, current, before)["default-runtime"] == default


def test_names_are_those_of_values_and_reveal_none_of_them() -> None:
    assert list(names({"log-opts": {"splunk": {"token": "hunter2"}, "empty": {}}, "dns": ["192.0.2.1"]})) == [
        "log-opts.splunk.token",
        "log-opts.empty",
        "dns",
    ]


def test_changes_of_others_to_our_keys_are_reported_key_by_key() -> None:
    ours = {"a": 1, "b": {"c": True, "d": {"e": 1, "f": 2}}, "g": {"h": 1}, "same": {"x": 1}}
    found = {"a": 2, "b": {"c": True}, "g": "text", "same": {"x": 1, "theirs": 1}, "theirs": 3}
    assert list(differences(ours, found)) == [
        "a has another value",
        "b.d.e is missing",
        "b.d.f is missing",
        "g has another value",
    ]


# -- the operations


def text(config: dict[str, Any]) -> str:
    return json.dumps(config, indent=4, sort_keys=True) + "\n"


def applied(host: OperationHost, ours: dict[str, Any] | None = None) -> dict[str, Any]:
    """The daemon.json that a host gets: with these keys of ours, or, without any, when it is left."""
    if ours is None:
        (script,) = performed(daemon.remove_our_keys, host)
    else:
        (script,) = performed(daemon.daemon_json, host, ours=ours, private=False)
    written: dict[str, Any] = json.loads(contents_sent(script)[0])
    return written


def host_with(current: dict[str, Any], ours: dict[str, Any], **changes: Any) -> OperationHost:
    return OperationHost({DaemonJson: DaemonJsonFiles(text(current), text(ours), **changes), GpuContainers: ["train"]})


def test_file_that_is_in_force_is_left_and_docker_not_restarted() -> None:
    host = host_with(keys(nvidia=True) | {"theirs": 1}, keys(nvidia=True))
    assert performed(daemon.daemon_json, host, ours=keys(nvidia=True), private=False) == []
    assert host.logged == []


def test_nvidia_ctk_that_somebody_has_run_is_put_right_and_reported() -> None:
    ours = keys(nvidia=True)
    host = host_with(nvidia_ctk(ours), ours)
    assert applied(host, ours) == ours
    report, gpus = host.logged
    assert report == (
        "daemon.json: others have changed our keys, and this run restores them: "
        "features.buildkit is missing; features.containerd-snapshotter is missing"
    )
    assert gpus.startswith("Warning: Docker is restarted while containers with GPUs run: train.")


def test_keys_of_the_hosts_own_stay_and_are_reported_without_their_values() -> None:
    ours = keys()
    own = {"http-proxy": "http://me:hunter2@proxy", "log-opts": {"labels": "team"}}
    host = host_with(merged(ours, own), ours)
    assert applied(host, keys(log_max_file=5)) == merged(keys(log_max_file=5), own)
    report, _ = host.logged
    assert report == "daemon.json: keys of the host's own stay: http-proxy, log-opts.labels"


def test_change_of_a_setting_is_nobody_elses() -> None:
    host = host_with(keys(), keys())
    assert applied(host, keys(nvidia=True)) == keys(nvidia=True)
    assert [message for message in host.logged if message.startswith("daemon.json")] == []


def test_own_change_that_was_cut_is_made_again_and_not_taken_for_somebody_elses() -> None:
    new = keys(log_max_file=5)
    host = host_with(new, keys(), unfinished=True)
    assert applied(host, new) == new
    assert [message for message in host.logged if message.startswith("daemon.json")] == []


def test_runtime_goes_with_the_toolkit() -> None:
    host = host_with(keys(nvidia=True) | {"theirs": 1}, keys(nvidia=True))
    assert applied(host, keys()) == keys() | {"theirs": 1}
    report, _ = host.logged
    assert report == "daemon.json: keys of the host's own stay: theirs"


def test_key_that_becomes_ours_is_not_reported_to_stay() -> None:
    host = host_with({"log-driver": "journald", "theirs": 1}, {})
    assert applied(host, keys()) == keys() | {"theirs": 1}
    replaced, stay, _ = host.logged
    assert replaced == "daemon.json: our keys replace keys of the host's own: log-driver"
    assert stay == "daemon.json: keys of the host's own stay: theirs"


def test_keys_of_the_hosts_own_that_are_replaced_are_named_in_order_and_without_their_values() -> None:
    own = {"runtimes": {"nvidia": {"path": "/opt/hunter2"}}, "log-opts": {"max-size": "1k", "max-file": "3"}}
    host = host_with(own | {"log-driver": "journald", "live-restore": keys()["live-restore"]}, {})
    assert applied(host, keys(nvidia=True)) == keys(nvidia=True)
    replaced, _ = host.logged
    assert replaced == (
        "daemon.json: our keys replace keys of the host's own: log-driver, log-opts.max-size, runtimes.nvidia"
    )


def test_default_runtime_that_went_with_its_runtime_is_not_reported_to_stay() -> None:
    host = host_with(keys(nvidia=True) | {"default-runtime": "nvidia", "theirs": 1}, keys(nvidia=True))
    assert applied(host, keys()) == keys() | {"theirs": 1}
    report, _ = host.logged
    assert report == "daemon.json: keys of the host's own stay: theirs"


def test_host_that_is_left_keeps_its_own_keys_and_what_its_gpus_need() -> None:
    ours = keys(nvidia=True, nvidia_default_runtime=True, daemon_json={"runtimes": {"kata": {"path": "/opt/kata"}}})
    host = host_with(ours | {"theirs": 1}, ours)
    assert applied(host) == {
        "theirs": 1,
        "runtimes": RUNTIME,
        "default-runtime": "nvidia",
        "features": {"cdi": True},
    }
    assert "Docker is restarted while containers with GPUs run" in host.events[0]
    assert "default-runtime" not in applied(host_with(keys(nvidia=True), keys(nvidia=True)))


def test_host_that_is_left_without_gpus_keeps_its_own_keys_alone() -> None:
    ours = keys(daemon_json={"default-runtime": "kata", "runtimes": {"kata": {"path": "/opt/kata"}}})
    assert applied(host_with(ours | {"theirs": 1}, ours)) == {"theirs": 1}


@pytest.mark.parametrize("nvidia", [False, True])
def test_host_that_is_left_keeps_the_store_that_its_images_are_in(nvidia: bool) -> None:
    ours = our_keys(settings(), 60 * G, containerd_store=True, nvidia=nvidia)
    gpus = {"runtimes": RUNTIME, "features": {"cdi": True}} if nvidia else {}
    assert applied(host_with(ours, ours)) == merged({"features": {"containerd-snapshotter": True}}, gpus)


def test_file_that_could_not_be_read_is_not_touched() -> None:
    for operation, arguments in (
        (daemon.daemon_json, {"ours": keys(), "private": False}),
        (daemon.remove_our_keys, {}),
    ):
        (refusal,) = performed(operation, OperationHost({DaemonJson: None}), **arguments)
        assert "it was not touched" in str(refusal)


# -- the file on the host


def files_of(directory: Path, current: bytes | None = None, applied: bytes | None = None) -> DaemonJsonFiles:
    """What the fact finds, with the two files in a directory."""
    fact = DaemonJson()
    command = fact.command()
    for path, content in ((DAEMON_JSON, current), (DAEMON_JSON_APPLIED, applied)):
        here = directory / Path(path).relative_to("/")
        command = command.replace(path, str(here))
        here.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            here.write_bytes(content)
    output = shell(command, directory).stdout.replace(f"{directory}/", "/")
    return fact.process(output.splitlines())


def test_files_are_read_as_they_are(tmp_path: Path) -> None:
    assert files_of(tmp_path) == DaemonJsonFiles()
    assert files_of(tmp_path, b'{"a": 1}', b"{}\n") == DaemonJsonFiles('{"a": 1}', "{}\n", exposed=True)


def test_file_or_copy_that_every_user_can_read_is_seen(tmp_path: Path) -> None:
    files_of(tmp_path, b"{}", b"{}")
    current, applied = (tmp_path / path[1:] for path in (DAEMON_JSON, DAEMON_JSON_APPLIED))
    applied.chmod(0o600)
    assert files_of(tmp_path).exposed
    current.chmod(0o640)
    assert not files_of(tmp_path).exposed
    applied.chmod(0o604)
    assert files_of(tmp_path).exposed
    applied.unlink()
    assert not files_of(tmp_path).exposed
    current.rename(current.with_name("managed"))
    current.symlink_to("managed")
    assert not files_of(tmp_path).exposed, "every symbolic link has the mode 0777"
    current.chmod(0o644)
    assert files_of(tmp_path).exposed


def test_file_in_force_with_keys_of_the_users_own_is_closed_to_others_without_a_restart() -> None:
    ours = keys(daemon_json={"http-proxy": "http://me:hunter2@proxy"})
    exposed, closed = (host_with(ours, ours, exposed=each) for each in (True, False))
    (command,) = performed(daemon.daemon_json, exposed, ours=ours, private=True)
    assert str(command) == f"chmod o= {DAEMON_JSON} {DAEMON_JSON_APPLIED}"
    assert performed(daemon.daemon_json, closed, ours=ours, private=True) == []
    assert performed(daemon.daemon_json, host_with(ours, ours, exposed=True), ours=ours, private=False) == []


def test_change_that_was_cut_is_made_again_where_the_content_is_the_same() -> None:
    ours = keys()
    assert applied(host_with(ours, ours, unfinished=True), ours) == ours


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + text(keys()).encode(),
        codecs.BOM_UTF16_LE + text(keys()).encode("utf-16-le"),
        b" \n",
        b"null\n",
        b'{"runtimes": null, "log-opts": null, "builder": {"gc": null}, "features": null}',
    ],
    ids=["UTF-8 mark", "UTF-16", "blank", "null", "keys that are null"],
)
def test_file_that_dockerd_reads_becomes_ours_without_a_byte_order_mark(tmp_path: Path, content: bytes) -> None:
    host = OperationHost({DaemonJson: files_of(tmp_path, content, text(keys()).encode())})
    assert applied(host, keys()) == keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{hunter2", "daemon.json is not a JSON object; it was not touched"),
        (b'{"runtimes": ["hunter2"]}', r"needs other types of values: runtimes \(a dictionary\); it was not touched"),
    ],
)
def test_file_that_dockerd_cannot_read_fails_this_host_alone(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(FactProcessError, match=message) as found:
        files_of(tmp_path, content)
    assert "hunter2" not in str(found.value)


def applied_to(directory: Path, path: Path) -> str:
    """Run the script that applies daemon.json on a host without Docker, and return its messages."""
    stand_in(directory, "systemctl", "exit 1")
    (script,) = performed(daemon.daemon_json, host_with({}, {}), ours=keys(), private=False)
    command = str(script).replace(DAEMON_JSON, str(path)).replace("/etc/bulkhead", f"{directory}/applied")
    done = shell(command, directory, stdin=script.connector_arguments["_stdin"])
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_docker_that_hangs_keeps_its_file_and_its_containers(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_text("{}")
    stand_in(tmp_path, "systemctl", f'echo "$*" >>{tmp_path}/asked')
    stand_in(tmp_path, "dockerd", "")
    stand_in(tmp_path, "docker", "exec sleep 60")
    (script,) = performed(daemon.daemon_json, host_with({}, {}), ours=keys(), private=False)
    command = str(script)
    for text, here in (
        (DAEMON_JSON, str(path)),
        ("/etc/bulkhead", f"{tmp_path}/applied"),
        (f"timeout {DOCKER_PATIENCE} docker", "timeout 0.2 docker"),
    ):
        command = command.replace(text, here)
    done = shell(command, tmp_path, stdin=script.connector_arguments["_stdin"])
    assert done.returncode == 1
    assert done.stderr == (
        f"daemon.json: Docker does not say which containers run; {path} was not touched. Run again when `docker ps` answers.\n"
    )
    assert path.read_text() == "{}"
    assert [*tmp_path.glob("daemon.json*")] == [path]
    assert "restart" not in (tmp_path / "asked").read_text()


def test_symbolic_link_stays_and_the_file_that_it_leads_to_is_replaced(tmp_path: Path) -> None:
    link, file = tmp_path / "etc/docker/daemon.json", tmp_path / "managed/docker.json"
    for path in (link, file):
        path.parent.mkdir(parents=True)
    file.write_text("{}\n")
    file.chmod(0o600)
    link.symlink_to("../../managed/docker.json")
    assert applied_to(tmp_path, link) == ""
    assert link.is_symlink()
    assert json.loads(file.read_text()) == keys()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["docker.json"]


def test_change_of_a_linked_file_that_was_cut_is_seen(tmp_path: Path) -> None:
    link, file = tmp_path / DAEMON_JSON[1:], tmp_path / "managed/docker.json"
    for path in (link, file):
        path.parent.mkdir(parents=True)
    file.write_text("{}")
    link.symlink_to(file)
    assert not files_of(tmp_path).unfinished
    file.with_name("docker.json.old").touch()
    assert files_of(tmp_path).unfinished


def test_file_is_made_where_there_is_not_even_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "etc/docker/daemon.json"
    applied_to(tmp_path, path)
    assert json.loads(path.read_text()) == keys()
