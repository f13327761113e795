"""What the verification asks a host, and how it judges the answers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from testinfra.host import Host

from tasks.support.paths import DROP_INS
from tests.verify import questions, test_gpu, test_host
from tests.verify.conftest import Target
from tests.verify.questions import Output

from .tasks.example_hosts import settings
from .tasks.operations import shell, stand_in

G = 2**30
VOLUME, DOCKER, CONTAINERD = MOUNTS = ("/srv/docker-volume", "/var/lib/docker", "/var/lib/containerd")
DEVICE = "/dev/mapper/ubuntu--vg-docker--lv"
HOME_DEVICE = "/dev/mapper/ubuntu--vg-home--lv"
UNIT = {"docker.service": DOCKER, "containerd.service": CONTAINERD}

# -- a host that is as it should be

LOADED = "\n".join(
    json.dumps({"data": data})
    for data in (
        ["DROP-IN"],
        list(MOUNTS),
        False,
        [
            *(["AssertPathIsMountPoint", False, False, path, 1] for path in MOUNTS),
            *(["AssertPathExists", False, False, f"{path}/.docker-bulkhead", 1] for path in MOUNTS),
            *(["AssertPathExists", False, True, f"{path}/docker/.docker-bulkhead", 1] for path in MOUNTS[1:]),
        ],
    )
)
GOOD = {
    "mounts": json.dumps(
        {
            "filesystems": [
                {"target": path, "source": source, "fstype": "ext4", "propagation": propagation}
                for path, source, propagation in (
                    (VOLUME, DEVICE, "private"),
                    (DOCKER, f"{DEVICE}[/docker]", "shared"),
                    (CONTAINERD, f"{DEVICE}[/containerd]", "shared"),
                    ("/home", HOME_DEVICE, "shared"),
                )
            ]
        }
    ),
    "logical volume": json.dumps(
        {
            "report": [
                {
                    "lv": [
                        {
                            "lv_name": "docker-lv",
                            "vg_name": "ubuntu-vg",
                            "lv_dm_path": DEVICE,
                            "lv_size": str(60 * G),
                            "segtype": "linear",
                            "lv_tags": "docker-bulkhead",
                            "vg_size": str(100 * G),
                            "vg_extent_size": str(4 * 2**20),
                        }
                    ]
                }
            ]
        }
    ),
    "volumes of the group": f"  docker-lv {DEVICE}\n  home-lv {HOME_DEVICE}",
    "blocks of the filesystem": f"{60 * G // 4096}\n4096",
    "devices of root and the stores": "1\n2\n2",
    "fstab": "\n".join(
        f"{source} {path} ext4 nofail,x-systemd.device-timeout={seconds}s 0 0"
        for source, path, seconds in (
            (DEVICE, VOLUME, 90),
            (f"{VOLUME}/docker", DOCKER, 90),
            (f"{VOLUME}/containerd", CONTAINERD, 90),
            (HOME_DEVICE, "/home", 30),
        )
    ),
    "mount units": "\n\n".join(
        f"Id={name}.mount\nFragmentPath=/run/systemd/generator/{name}.mount\nSourcePath=/etc/fstab"
        for name in ("srv-docker\\x2dvolume", "var-lib-docker", "var-lib-containerd", "home")
    ),
    "beneath the mounts": "\n".join(["= ----i---- ."] * 4),
    "disks": "/dev/vda3",
    "daemons are active": "active\nactive",
    "daemons are enabled": "enabled\nenabled",
    "docker info": json.dumps(
        {
            "Driver": "overlay2",
            "DriverStatus": [["Backing Filesystem", "extfs"]],
            "DockerRootDir": DOCKER,
            "LoggingDriver": "json-file",
            "LiveRestoreEnabled": True,
            "Runtimes": {"runc": {}},
        }
    ),
    "daemon.json": json.dumps(
        {
            "live-restore": True,
            "features": {"buildkit": True, "containerd-snapshotter": False},
            "builder": {"gc": {"enabled": True}},
            "log-driver": "json-file",
            "log-opts": {"max-size": "10m", "max-file": "3"},
        }
    ),
    "cron is active": "active",
    "cron's line": "PATH=/usr/bin\n*/15 * * * * root check-disk 80 >/dev/null",
    "check-disk": f"DISK OK - / 50 % | '/'=1 '{VOLUME}'=2",
    "check-disk in full": "OK: docker-guard.service is active",
    "receivers": "600 root",
    "prune timer": "ActiveState=active\nUnitFileState=enabled\n"
    "TimersCalendar={ OnCalendar=*-*-* 03:00:00 ; next_elapse=Mon }",
    "prune": "1 GB would be freed",
    "status": json.dumps({"old": {}, "extra_volumes": {}, "guard": {"floor": 3 * G, "inode_floor": 196_608}}),
    "guard": "ActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no",
    "guard's sign": "1000\n1002",
    "space": f"{60 * G} {50 * G}",
    "inodes": "3932160",
    "ballast": f"root:600 {G} {2 * G // 512}",
    "limits of the journal": "SystemMaxUse=500M",
    **{f"{unit} as loaded": LOADED.replace("DROP-IN", DROP_INS[unit]) for unit in UNIT},
    **{f"databases of {unit}": f"{store}/network/files/local-kv.db" for unit, store in UNIT.items()},
}
# Where the answer is that a command fails.
FAILS = (
    "lost+found is in the store",
    "driver",
    "first GPU",
    "toolkit",
    "toolkit of others",
    "files of the toolkit",
    "script of ephemeral disks",
)
SETTINGS: dict[str, Any] = {
    "volume_size": "60%VG",
    "volume_reserve": "5%",
    "extra_volumes": {"home-lv": {"mount": "/home", "size": "5G"}},
    "alert_receivers": {"ops": "json://127.0.0.1"},
    "prune_time": "03:00",
    "guard_ballast": "1G",
    "journal_max_use": "500M",
}


class FakeBackend:
    """A host that answers the verification's script from a dictionary, and counts its commands."""

    def __init__(self, **changes: str | None) -> None:
        self.answers = {name.replace("_", " "): text for name, text in changes.items()}
        self.commands: list[str] = []

    def run(self, command: str) -> Any:
        self.commands.append(command)
        mark = command.partition("mark='")[2].partition("'")[0]
        lines = []
        for name in questions.questions(settings(**SETTINGS)):
            text = self.answers.get(name, GOOD.get(name, ""))
            code = int(text is None or (name in FAILS and name not in self.answers))
            lines += [f"{mark} {name}", text or "", "", f"{mark} {code}", ""]
        return SimpleNamespace(stdout="\n".join(lines), stderr="", failed=False)


def target_of(backend: FakeBackend, **changes: object) -> Target:
    return Target("web-1", settings(**SETTINGS).model_copy(update=changes), backend)  # type: ignore[arg-type]


def properties() -> Iterator[tuple[str, Callable[..., None], tuple[Any, ...]]]:
    """Every test that needs no container and stops nothing, with its parameters."""
    for module in (test_host, test_gpu):
        for name, test in vars(module).items():
            if not name.startswith("test_"):
                continue
            marks = {mark.name: mark for mark in getattr(test, "pytestmark", ())}
            names = test.__code__.co_varnames[: test.__code__.co_argcount]
            if "disruptive" in marks or "image" in names or names[0] != "target":
                continue
            cases = marks["parametrize"].args[1] if "parametrize" in marks else [()]
            for case in cases:
                yield f"{name}[{case}]" if case else name, test, (case,) if case else ()


PROPERTIES = {name: (test, case) for name, test, case in properties()}


def failing(target: Target) -> set[str]:
    """The properties that do not hold."""
    found = set()
    for name, (test, case) in PROPERTIES.items():
        try:
            test(target, *case)
        except pytest.skip.Exception:
            pass
        except (AssertionError, pytest.fail.Exception):
            found.add(name)
    return found


def test_good_host_has_every_property_and_is_asked_by_one_command() -> None:
    backend = FakeBackend()
    assert failing(target_of(backend)) == set()
    assert len(backend.commands) == 1  # at most 10
    assert len(PROPERTIES) > 30


@pytest.mark.parametrize(
    ("name", "answer", "wrong"),
    [
        (
            "mounts",
            GOOD["mounts"].replace('"ext4"', '"xfs"', 1),
            {"test_volume_has_the_filesystem_of_the_settings", "test_docker_has_the_configuration"},  # Docker says ext4
        ),
        ("mounts", GOOD["mounts"].replace("private", "shared"), {"test_volume_is_mounted_private"}),
        ("mounts", GOOD["mounts"].replace(f"{DEVICE}[/docker]", "/dev/vda1"), {"test_store_is_on_the_volume[docker]"}),
        ("mounts", GOOD["mounts"].replace(HOME_DEVICE, "b"), {"test_extra_volumes_are_on_their_own_logical_volumes"}),
        (
            "logical volume",
            GOOD["logical volume"].replace("linear", "thin"),
            {"test_volume_is_a_plain_logical_volume"},
        ),
        ("blocks of the filesystem", f"4096 {50 * G // 4096}", {"test_volume_fills_its_logical_volume"}),
        ("markers", None, {"test_volume_and_both_stores_carry_their_markers"}),
        ("devices of root and the stores", "1\n1\n2", {"test_docker_and_root_are_on_different_devices"}),
        ("fstab", GOOD["fstab"].replace("nofail,", "", 1), {"test_fstab_mounts_every_volume_and_never_delays_the_boot"}),
        ("fstab is valid", None, {"test_fstab_is_valid"}),
        ("mount units", GOOD["mount units"].replace("/run/", "/etc/", 1), {"test_systemd_takes_every_mount_from_fstab"}),
        ("daemons are active", "active\nfailed", {"test_docker_and_containerd_run_and_start_at_boot"}),
        ("daemons are enabled", "enabled\ndisabled", {"test_docker_and_containerd_run_and_start_at_boot"}),
        ("docker info", GOOD["docker info"].replace("true", "false"), {"test_docker_has_the_configuration"}),
        ("daemon.json", GOOD["daemon.json"].replace("10m", "1m"), {"test_daemon_json_has_our_keys_and_those_of_the_settings"}),
        (
            "docker.service as loaded",
            GOOD["docker.service as loaded"].replace("AssertPathIsMountPoint", "AssertPathExists", 1),
            {"test_unit_does_not_start_without_the_volume[docker.service]"},
        ),
        ("databases of docker.service", "/data/a.db", {"test_daemon_writes_its_databases_into_its_store[docker.service]"}),
        ("cron's line", "", {"test_cron_checks_the_disks"}),
        ("check-disk", "DISK OK - | '/'=1", {"test_check_disk_reports_root_and_the_volume"}),
        ("receivers", "644 root", {"test_only_root_can_read_the_receivers_of_alerts"}),
        ("apprise", None, {"test_only_root_can_read_the_receivers_of_alerts"}),
        ("prune timer", GOOD["prune timer"].replace("03:", "04:"), {"test_prune_runs_every_day"}),
        ("guard has the unit", None, {"test_guard_runs_and_starts_at_boot"}),
        ("guard's sign", "1000\n1100", {"test_guard_is_at_work_and_keeps_its_floors"}),
        ("check-disk in full", "CRITICAL", {"test_check_disk_reports_the_guard"}),
        ("ballast", f"root:644 {G} {2 * G // 512}", {"test_guard_has_ballast"}),
        ("limits of the journal", None, {"test_journal_of_the_system_has_a_size_limit"}),
        ("journald has the drop-in", None, {"test_journal_of_the_system_has_a_size_limit"}),
        ("toolkit", "", set()),
    ],
)  # fmt: skip
def test_property_that_does_not_hold_fails_its_test_alone(name: str, answer: str | None, wrong: set[str]) -> None:
    backend = FakeBackend()
    backend.answers[name] = answer
    assert failing(target_of(backend)) == wrong


@pytest.mark.parametrize(("segment_type", "raid"), [("striped", ""), ("striped", "raid0"), ("linear", "")])
def test_volume_may_be_striped(segment_type: str, raid: str) -> None:
    backend = FakeBackend()
    backend.answers["logical volume"] = GOOD["logical volume"].replace("linear", segment_type)
    assert failing(target_of(backend, volume_raid=raid)) == set()
    if raid:
        assert failing(target_of(FakeBackend(), volume_raid=raid)) == {"test_volume_is_a_plain_logical_volume"}


EPHEMERAL = "test_boot_makes_the_volume_anew_on_ephemeral_disks_before_it_is_mounted"


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, set()),
        (
            {"the unit of ephemeral disks": "ActiveState=failed\nUnitFileState=enabled\nNeedDaemonReload=no"},
            {EPHEMERAL},
        ),
        ({"script of ephemeral disks": None}, {EPHEMERAL}),
        ({"needs of the mount": "Requires=-.mount\nAfter=local-fs-pre.target"}, {EPHEMERAL}),
        ({"machine": None, "script of ephemeral disks": None}, set()),
    ],
)
def test_ephemeral_host_has_the_unit_that_makes_its_volume(changes: dict[str, Any], wrong: set[str]) -> None:
    backend = FakeBackend()
    backend.answers |= {
        "the unit of ephemeral disks": "ActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no",
        "needs of the mount": "Requires=-.mount\nAfter=local-fs-pre.target docker-ephemeral.service",
        "script of ephemeral disks": "",
        "machine": "digest",
    }
    backend.answers |= changes
    assert failing(target_of(backend, volume_ephemeral=True)) == wrong


def test_host_that_is_not_ephemeral_has_no_such_unit() -> None:
    backend = FakeBackend()
    backend.answers["script of ephemeral disks"] = ""
    assert failing(target_of(backend)) == {EPHEMERAL}


PARTS = """\
  docker-lv            docker-lv_rimage_0(0),docker-lv_rimage_1(0)
  [docker-lv_rimage_0] /dev/vdb(1)
  [docker-lv_rimage_1] /dev/vdc(1)
  [docker-lv_rmeta_0]  /dev/vdb(0)
  [docker-lv_rmeta_1]  /dev/vdc(0)
"""
WHOLE = "test_mirror_is_whole_and_each_copy_is_on_a_disk_of_its_own"


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, set()),
        ({"health": "partial"}, {WHOLE}),
        ({"parts": PARTS.replace("vdc(1)", "vdb(9)")}, {WHOLE}),
        ({"parts": PARTS.replace("/dev/vdc(1)", "")}, {WHOLE}),
        ({"unit": None}, {WHOLE}),
    ],
)
def test_mirror_has_two_copies_on_two_disks(changes: dict[str, Any], wrong: set[str]) -> None:
    backend = FakeBackend()
    volume = json.loads(GOOD["logical volume"].replace("linear", "raid1"))
    volume["report"][0]["lv"][0]["lv_health_status"] = changes.get("health", "")
    backend.answers["logical volume"] = json.dumps(volume)
    backend.answers["parts of the volumes"] = changes.get("parts", PARTS)
    backend.answers["the mirror's unit is enabled"] = changes.get("unit", "enabled")
    assert failing(target_of(backend)) == wrong


@pytest.mark.parametrize(
    ("top", "wrong"),
    [
        (".docker-bulkhead\n.bulkhead-ballast\ncontainerd\ndocker\nlost+found", set()),
        (
            ".docker-bulkhead\ncontainerd\ndocker\noverlay2",
            {"test_adopted_filesystem_has_nothing_but_the_volume_at_its_top"},
        ),
    ],
)
def test_adopted_filesystem_is_the_volume(top: str, wrong: set[str]) -> None:
    backend = FakeBackend(mounts=GOOD["mounts"].replace(DEVICE, "/dev/vdb1"), top_of_the_volume=top)
    backend.answers["fstab"] = GOOD["fstab"].replace(DEVICE, "UUID=7a41")
    backend.answers["UUID of the filesystem"] = "7a41"
    # One mount less: there are no extra volumes.
    for name, separator in (("mount units", "\n\n"), ("beneath the mounts", "\n")):
        backend.answers[name] = GOOD[name].rpartition(separator)[0]
    kept = {name: value for name, value in SETTINGS.items() if not name.startswith(("volume_", "extra_volumes"))}
    assert failing(Target("web-1", settings(adopt_filesystem=True, **kept), backend)) == wrong  # type: ignore[arg-type]


def test_message_names_the_command_and_what_it_printed() -> None:
    target = target_of(FakeBackend())
    target.__dict__["answers"] = {"apprise": Output(127, "", "sh: apprise: not found"), "prune": Output(124, "", "")}
    with pytest.raises(AssertionError, match=r"^`apprise --version` failed: sh: apprise: not found$"):
        target.output("apprise")
    with pytest.raises(AssertionError, match=r"^`bulkhead prune --dry-run` did not end within 100 s$"):
        target.fails("prune")
    with pytest.raises(AssertionError, match=r"^`cat /etc/fstab` has given no answer.$"):
        target.output("fstab")


@pytest.mark.parametrize("raises", [False, True])
def test_host_that_does_not_answer_is_asked_once_and_says_why(raises: bool) -> None:
    asked = []

    class Silent(FakeBackend):
        def run(self, command: str) -> Any:
            asked.append(command)
            if raises:
                raise AssertionError("it did not end within 900 s")
            return SimpleNamespace(stdout="", stderr="sudo: a password is required\n")

    target = target_of(Silent())
    why = "it did not end within 900 s" if raises else "sudo: a password is required"
    for _ in range(2):
        with pytest.raises(AssertionError, match=f"^`cat /etc/fstab` has given no answer. {why}$"):
            target.output("fstab")
    assert len(asked) == 1


# -- the script


def test_each_question_has_its_own_answer_whatever_the_others_do(tmp_path: Path) -> None:
    stand_in(tmp_path, "findmnt", "echo /dev/a")
    stand_in(tmp_path, "lvs", "echo '  vg'")
    stand_in(tmp_path, "pvs", "echo /dev/loop7")
    asked = {
        "variables": 'echo "$volume $device $group $loop"',
        "no newline": "printf 'a b\n\nc'",
        "fails": "echo out; echo 'bad 1' >&2; exit 3",
        "hangs": "echo begun; sleep 60",
        "reads": "cat",
        "it's quoted": 'echo "it\'s"',
    }
    done = shell(questions.script(asked, "/srv/docker-volume", "##V## 1", limit=3), tmp_path, stdin="nothing")
    assert (done.returncode, done.stderr) == (0, "")
    assert questions.outputs(done.stdout, "##V## 1") == {
        "variables": Output(0, "/srv/docker-volume /dev/a vg /dev/loop7", ""),
        "no newline": Output(0, "a b\n\nc", ""),
        "fails": Output(3, "out", "bad 1"),
        "hangs": Output(questions.TIMED_OUT, "begun", ""),
        "reads": Output(0, "", ""),
        "it's quoted": Output(0, "it's", ""),
    }


def test_answers_that_were_cut_off_are_missing() -> None:
    assert questions.outputs("##V## 1 a\nx\n\n##V## 1 0\n\n##V## 1 b\nhalf", "##V## 1") == {"a": Output(0, "x", "")}


def test_every_question_is_a_shell_command() -> None:
    for name, command in questions.questions(settings(**SETTINGS)).items():
        done = subprocess.run(["sh", "-n"], input=command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr}"


SUPERBLOCK = "Block count:              262144\nReserved block count:     13107\nBlock size:               4096"
XFS_INFO = """\
meta-data=/dev/dm-1 isize=512    agcount=4, agsize=65536 blks
data     =          bsize=4096   blocks=262144, imaxpct=25
log      =internal log bsize=4096   blocks=16384, version=2"""


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_size_of_a_filesystem_counts_what_it_keeps_for_itself(tmp_path: Path, kind: str) -> None:
    stand_in(tmp_path, "findmnt", f"echo {kind}")
    stand_in(tmp_path, "dumpe2fs", f"echo '{SUPERBLOCK}'")
    stand_in(tmp_path, "xfs_info", f"echo '{XFS_INFO}'")
    done = shell(questions.questions(settings())["blocks of the filesystem"], tmp_path, volume=VOLUME, device=DEVICE)
    assert sorted(done.stdout.split()) == ["262144", "4096"]


@pytest.mark.parametrize("is_active", [True, False])
def test_this_hosts_docker_is_asked_unless_it_is_stopped(tmp_path: Path, is_active: bool) -> None:
    """By its socket systemd would start it."""
    stand_in(tmp_path, "systemctl", f"exit {0 if is_active else 3}")
    stand_in(tmp_path, "docker", 'echo "$DOCKER_HOST"')
    name = "docker info"
    asked = questions.script({name: questions.questions(settings())[name]}, VOLUME, "##V## 1")
    answer = questions.outputs(shell(asked, tmp_path, DOCKER_HOST="ssh://other").stdout, "##V## 1")[name]
    assert answer == (Output(0, "unix:///run/docker.sock", "") if is_active else Output(3, "", ""))


def test_containers_are_made_by_this_hosts_docker(tmp_path: Path) -> None:
    stand_in(tmp_path, "docker", 'echo "$DOCKER_HOST $*"')

    def run(command: str) -> Any:
        done = shell(command, tmp_path, DOCKER_HOST="ssh://other")
        return SimpleNamespace(stdout=done.stdout, stderr=done.stderr, failed=done.returncode != 0)

    target = target_of(SimpleNamespace(run=run))  # type: ignore[arg-type]
    assert target.run("docker ps") == "unix:///run/docker.sock ps"


def test_verification_trims_nothing() -> None:
    """Where Docker's disk is a file and its devices take discards, a trim makes holes in it."""
    assert not [command for command in questions.questions(settings()).values() if "fstrim" in command]


# -- beneath the mounts


def held(programs: Path, path: str, *files: str, immutable: bool = True) -> None:
    """Put files beneath a mount."""
    directory = programs / "root" / path[1:]
    directory.mkdir(parents=True, exist_ok=True)
    for name in files:
        file = directory / name
        (file.mkdir if name.endswith("/") else file.parent.mkdir)(parents=True, exist_ok=True)
        if not name.endswith("/"):
            file.touch()
    programs.joinpath(f"flags{path.replace('/', '_')}").write_text("----i----" if immutable else "---------")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The directories beneath the mounts, all empty and immutable. Return where the stand-ins are."""
    for path in (*MOUNTS, "/home"):
        held(tmp_path, path)
    # `mount --bind PARENT /mnt` is played by a link, which `umount /mnt` removes.
    stand_in(
        tmp_path, "mount", f"[ $1 = --bind ] && ln -s {tmp_path}/root$2 {tmp_path}/mnt && echo $2 >{tmp_path}/parent"
    )
    stand_in(tmp_path, "umount", f"rm {tmp_path}/mnt")
    stand_in(
        tmp_path,
        "lsattr",
        f'path=$(cat {tmp_path}/parent)/$(basename "$(pwd -P)"); '
        f'echo "$(cat {tmp_path}/flags$(echo "$path" | sed "s,//,/,; s,/,_,g")) ."',
    )
    stand_in(tmp_path, "unshare", f'shift 5; exec sh -ec "$(echo "$1" | sed "s,/mnt,{tmp_path}/mnt,g")"')
    return tmp_path


def beneath(host: Path) -> str:
    done = shell(questions.beneath([*MOUNTS, "/home"]), host)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_lies_beneath_each_mount_is_shown(host: Path) -> None:
    held(host, "/var/lib/docker", "overlay2/a", "image/", immutable=False)
    held(host, "/home", "ann/.ssh/authorized_keys", "bob/.ssh/authorized_keys2")
    found = test_host.beneath(beneath(host), [*MOUNTS, "/home"])
    assert {path: (immutable, sorted(files)) for path, (immutable, files) in found.items()} == {
        "/srv/docker-volume": (True, []),
        "/var/lib/docker": (False, ["image", "overlay2/a"]),
        "/var/lib/containerd": (True, []),
        "/home": (True, []),
    }


@pytest.mark.parametrize(
    ("files", "immutable", "wrong"),
    [
        (["overlay2/a"], True, "holds overlay2/a"),
        (["left/"], True, "holds left"),
        ([], False, "is not immutable"),
    ],
)
@pytest.mark.parametrize(("path", "old"), [("/var/lib/docker", "old"), ("/home", "extra_volumes")])
def test_what_lies_beneath_a_mount_must_be_the_old_data_of_a_move(
    host: Path, path: str, old: str, files: list[str], immutable: bool, wrong: str
) -> None:
    check = test_host.test_directories_beneath_the_mounts_are_empty_and_immutable
    held(host, path, *files, immutable=immutable)
    found = beneath(host)
    status: dict[str, Any] = {"old": {}, "extra_volumes": {}}
    with pytest.raises(
        AssertionError, match=f"the directory beneath {path} {wrong}, and no move has left its old data"
    ):
        check(target_of(FakeBackend(beneath_the_mounts=found, status=json.dumps(status))))
    status[old] = {path: G} if old == "old" else {path: {"old": {path: G}}}
    check(target_of(FakeBackend(beneath_the_mounts=found, status=json.dumps(status))))


def test_nothing_may_lie_beneath_the_volume(host: Path) -> None:
    held(host, VOLUME, "docker/image")
    status = {"old": {"/var/lib/docker": G}, "extra_volumes": {}}
    target = target_of(FakeBackend(beneath_the_mounts=beneath(host), status=json.dumps(status)))
    with pytest.raises(AssertionError, match="beneath /srv/docker-volume holds docker/image"):
        test_host.test_directories_beneath_the_mounts_are_empty_and_immutable(target)


# -- the logs


@pytest.mark.parametrize("driver", ["local", "journald"])
def test_log_driver_that_the_host_keeps_has_no_limits_of_ours(driver: str) -> None:
    backend = FakeBackend(docker_info=GOOD["docker info"].replace("json-file", driver))
    with pytest.raises(pytest.skip.Exception, match=f"keeps its own log driver, {driver}"):
        test_host.test_log_of_a_container_has_a_size_limit(target_of(backend, log_driver="keep"), "box")


# -- the guard


@pytest.mark.parametrize(
    ("guard", "holds"),
    [
        ({"floor": 5 * G, "inode_floor": 327_680}, True),
        ({"floor": 2 * G, "inode_floor": 327_680}, False),
        ({"floor": 5 * G, "inode_floor": 0}, False),
    ],
)
def test_floors_of_the_guard_are_those_of_its_volume(guard: dict[str, int], holds: bool) -> None:
    backend = FakeBackend(space=f"{100 * G} {50 * G}", inodes="6553600", status=json.dumps({"guard": guard}))
    if holds:
        test_host.test_guard_is_at_work_and_keeps_its_floors(target_of(backend))
    else:
        with pytest.raises(AssertionError):
            test_host.test_guard_is_at_work_and_keeps_its_floors(target_of(backend))
    assert not [command for command in backend.commands if "/run/bulkhead" in command], "a record of the program's own"


def test_floors_are_what_the_guards_page_says() -> None:
    target = target_of(FakeBackend())
    assert [test_host.floor_of(target, size) / G for size in (6 * G, 20 * G, 100 * G, 2000 * G)] == [1.5, 2, 5, 50]
    assert [*map(test_host.inode_floor_of, (0, 100_000, 6_000_000, 10**9))] == [0, 25_000, 300_000, 1_000_000]


def test_ballast_that_is_not_there_yet_is_waited_for() -> None:
    backend = FakeBackend(ballast=None)
    target = target_of(backend)
    assert not target.fails("space")
    waited = []
    target.run = lambda command: waited.append(command) or GOOD["ballast"]  # type: ignore[method-assign, func-returns-value]
    test_host.test_guard_has_ballast(target)
    assert len(waited) == 1
    nearly_full = target_of(FakeBackend(ballast=None, space=f"{60 * G} {3 * G}"))
    with pytest.raises(pytest.skip.Exception):
        test_host.test_guard_has_ballast(nearly_full)


def test_host_is_a_host_of_testinfra() -> None:
    """The fake has the method that the verification calls."""
    assert callable(Host.run)
