"""Packages that stay at a version: what is there, what apt offers, and the pin."""

from __future__ import annotations

import fcntl
import hashlib
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from pyinfra.api import StringCommand
from pyinfra_testing.util import get_command_string

from tasks.support.packages import (
    Offer,
    PackageStates,
    Pinned,
    install_command,
    installed,
    offer_command,
    outdated,
    parse_offer,
    pin_command,
    purge_command,
    simulation_script,
    under_pin,
    update_command,
)

from ..operations import OperationHost, commands, contents_sent, shell, stand_in

PIN_FILE = "/etc/apt/preferences.d/engine"
PINNED = Pinned(("docker-ce", "docker-ce-cli"), "27.5", PIN_FILE, "engine_version")
UNPINNED = Pinned(PINNED.names, "", PIN_FILE, "engine_version")


def test_what_is_configured_and_what_apt_could_install_is_seen(tmp_path: Path) -> None:
    stand_in(
        tmp_path,
        "dpkg-query",
        "echo package docker-ce installed 5:27.5.0-1\necho package docker-ce-cli unpacked 5:27.5.0-1\nexit 1",
    )
    stand_in(
        tmp_path,
        "apt-cache",
        """[ $LC_ALL = C ] || exit 1
        printf '%s:\\n  Installed: (none)\\n  Candidate: %s\\n  Version table:\\n' docker-ce 5:27.5.1-1 docker-buildx '(none)'""",
    )
    (tmp_path / "pin").write_text("Package: docker-ce\nPin: version /x/\n")
    names = ["docker-ce", "docker-ce-cli", "docker-buildx"]
    done = shell(offer_command(names, f"{tmp_path}/pin", names), tmp_path)
    assert parse_offer(done.stdout.splitlines()) == Offer(
        {"docker-ce": "5:27.5.0-1"}, frozenset({"docker-ce"}), "Package: docker-ce\nPin: version /x/\n"
    )


def test_without_a_name_nothing_is_asked_for(tmp_path: Path) -> None:
    for name in ("dpkg-query", "apt-cache"):
        stand_in(tmp_path, name, "echo package everything installed 1")
    done = shell(offer_command([], f"{tmp_path}/none"), tmp_path)
    assert parse_offer(done.stdout.splitlines()) == Offer({}, frozenset())


def test_package_is_installed_only_if_it_is_configured_and_no_other_line_is_about_a_package() -> None:
    lines = [
        *("package a half-configured 1", "package b not-installed", "package c unpacked 1"),
        *("package d installed", "package e installed 1 2", "a package installed 1", "zero package installed 1"),
        *("", "offered", "an offer", "zero offers", "offered more than one"),
    ]
    assert parse_offer(lines) == Offer({}, frozenset())
    whole = [*lines, "package docker-ce installed 5:27.5", "offered docker-compose-plugin", "pin=Package: x", "pin="]
    assert parse_offer(whole) == Offer({"docker-ce": "5:27.5"}, frozenset({"docker-compose-plugin"}), "Package: x\n\n")


def test_outdated_is_what_is_missing_or_at_another_version_than_its_pin() -> None:
    found = Offer(
        {"docker-ce": "5:27.5.1-1~debian.12", "docker-ce-cli": "5:27.4.1-1~debian.12", "apparmor": "3.0"}, frozenset()
    )
    wanted = ["docker-ce", "docker-ce-cli", "apparmor", "containerd.io"]
    assert outdated(wanted, found, PINNED) == ["docker-ce-cli", "containerd.io"]
    assert outdated(wanted, found, UNPINNED) == ["containerd.io"]


def test_pin_names_its_packages_and_the_setting_and_never_downgrades() -> None:
    comment, packages, version, priority = PINNED.pin.splitlines()
    assert "engine_version" in comment
    assert packages == "Package: docker-ce docker-ce-cli"
    assert version == "Pin: version /^([0-9]+:)?27[.]5([^0-9A-Za-z].*)?$/"
    assert 500 < int(priority.removeprefix("Pin-Priority: ")) < 1000


def test_pin_is_written_replaced_and_removed_as_the_settings_say() -> None:
    for before in ("", "an older pin\n"):
        written = pin_command(Offer({}, frozenset(), before), PINNED)
        assert written
        assert contents_sent(written) == [PINNED.pin]
        assert PIN_FILE in get_command_string(written)
    assert pin_command(Offer({}, frozenset(), PINNED.pin), PINNED) is None
    removed = pin_command(Offer({}, frozenset(), PINNED.pin), UNPINNED)
    assert removed
    assert get_command_string(removed) == f"rm {PIN_FILE}"
    assert pin_command(Offer({}, frozenset()), UNPINNED) is None


# -- what apt does, itself: with packages of its own, in a directory


class Apt:
    """Debian's apt and dpkg-query, with fake packages and a fake repository; they note what they would do, and do nothing.

    Args:
        installed, offered: "name version [on what it depends]".
    """

    def __init__(self, top: Path, installed: Sequence[str] = (), offered: Sequence[str] = ()) -> None:
        self.top, self.preferences = top, top / "etc" / "preferences.d"
        for name in (
            "bin",
            "etc/preferences.d",
            "repository",
            "state/lists/partial",
            "cache/archives/partial",
            "updates",
        ):
            (top / name).mkdir(parents=True)
        (top / "status").write_text("".join(self._stanza(one, "Status: install ok installed\n") for one in installed))
        self.packages = top / "repository" / "Packages"
        self.offer(
            "".join(
                self._stanza(one, f"Filename: ./{one.split()[0]}.deb\nSize: 1\nMD5sum: {0:032}\n") for one in offered
            )
        )
        (top / "sources.list").write_text(f"deb [trusted=yes] file:{top}/repository ./\n")
        (top / "audit").write_text("")
        options = {
            "Dir::Etc::SourceList": f"{top}/sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::State": f"{top}/state",
            "Dir::State::status": f"{top}/status",
            "Dir::Cache": f"{top}/cache",
            "APT::Sandbox::User": "root",
            "Debug::NoLocking": "1",
        }
        given = shlex.join([word for name, value in options.items() for word in ("-o", f"{name}={value}")])
        real = {name: shutil.which(name) for name in ("apt-get", "apt-cache", "dpkg-query")}
        self.apt_get = f"{real['apt-get']} {given}"
        stand_in(top / "bin", "apt-cache", f'exec {real["apt-cache"]} {given} "$@"')
        stand_in(
            top / "bin",
            "apt-get",
            f"""case " $* " in *" update "*) exec {self.apt_get} "$@" ;; *" --simulate "*) ;; *) echo "$*" >>{top}/log ;; esac
            [ ! -e {top}/refuses ] && exec {self.apt_get} --simulate "$@" """,
        )
        stand_in(top / "bin", "dpkg-query", f'exec {real["dpkg-query"]} --admindir={top} "$@"')
        stand_in(
            top / "bin",
            "dpkg",
            f'case $1 in --audit) cat {top}/audit ;; *) echo "dpkg $1" >>{top}/log; [ ! -s {top}/audit ] ;; esac',
        )
        (top / "info").mkdir()

    @staticmethod
    def _stanza(one: str, more: str) -> str:
        name, version, *depends = one.split()
        return (
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\n"
            f"{f'Depends: {chr(44).join(depends)}' + chr(10) if depends else ''}{more}Description: fake\n\n"
        )

    def offer(self, packages: str) -> None:
        """Have the repository offer these, and put them into apt's lists: `apt-get update` takes longer than all the rest."""
        place = str(self.packages).replace("_", "%5f").replace("/", "_").replace("_Packages", "_._Packages")
        for path in (self.packages, self.top / "state" / "lists" / place):
            path.write_text(packages)

    def run(self, command: StringCommand, **environment: str) -> CompletedProcess[str]:
        text = get_command_string(command)
        for path, here in (
            ("/etc/apt/preferences.d", self.preferences),
            ("/tmp/with-pin", self.top / "with-pin"),
            ("/var/lib/dpkg/updates", self.top / "updates"),
            ("/run/apt-messages", self.top / "apt-messages"),
            ("/tmp/apt-messages", self.top / "elsewhere" / "apt-messages"),
        ):
            text = text.replace(path, str(here))
        return shell(text, self.top / "bin", stdin=command.connector_arguments.get("_stdin") or "", **environment)

    @property
    def log(self) -> list[str]:
        return (self.top / "log").read_text().splitlines() if (self.top / "log").exists() else []

    @property
    def leftovers(self) -> list[Path]:
        return list(self.top.glob("with-pin*"))


needs_apt = pytest.mark.skipif(not shutil.which("apt-get"), reason="there is no apt")

ENGINES = ("docker-ce 5:27.5.1-1~debian.12", "docker-ce 5:27.51.0-1~debian.12", "docker-ce 5:29.1.0-1~debian.12")
CLIENTS = tuple(one.replace("docker-ce", "docker-ce-cli") for one in ENGINES)
INSTALL = "apt-get -q --simulate install docker-ce docker-ce-cli"


def etc(apt: Apt) -> dict[str, str]:
    return {path.name: path.read_text() for path in apt.preferences.iterdir()}


@needs_apt
def test_under_a_pin_apt_takes_its_version_and_etc_keeps_the_old_one(tmp_path: Path) -> None:
    apt = Apt(tmp_path, ["docker-ce 5:26.0.0-1"], [*ENGINES, *CLIENTS, "other 1.0", "other 2.0"])
    old = {
        "engine": Pinned(PINNED.names, "26.0", PIN_FILE, "engine_version").pin,
        "own": "Package: other\nPin: version 1.0\nPin-Priority: 990\n",
    }
    for name, content in old.items():
        (apt.preferences / name).write_text(content)
    done = apt.run(under_pin(PINNED, PINNED.names, f"{INSTALL} other"))
    assert done.returncode == 0, done.stderr
    installed = sorted(line.partition(" [")[0] for line in done.stdout.splitlines() if line.startswith("Inst "))
    assert [line.split()[1] for line in installed] == ["docker-ce", "docker-ce-cli", "other"]
    assert done.stdout.count("(5:27.5.1-1~debian.12 ") >= len(PINNED.names)
    assert "5:29.1.0" not in done.stdout
    assert "Inst other (1.0 " in done.stdout
    assert etc(apt) == old
    assert apt.leftovers == []


@needs_apt
@pytest.mark.parametrize(
    ("installed", "offered", "refused"),
    [
        ([], (*ENGINES[1:], *CLIENTS), "docker-ce"),
        ([], (*ENGINES, *CLIENTS[1:]), "docker-ce-cli"),
        ([], CLIENTS, "docker-ce"),
        (["docker-ce 5:29.1.0-1~debian.12"], (*ENGINES, *CLIENTS), "docker-ce"),
    ],
    ids=["another version", "of one only", "no such package", "older than what is installed"],
)
def test_version_that_apt_would_not_take_ends_the_run_with_those_there_are(
    tmp_path: Path, installed: list[str], offered: Sequence[str], refused: str
) -> None:
    apt = Apt(tmp_path, installed, offered)
    (apt.preferences / "engine").write_text("Package: x\nPin: version 1\nPin-Priority: 1\n")
    before = etc(apt)
    done = apt.run(under_pin(PINNED, PINNED.names, "echo went on"))
    assert (done.returncode, done.stdout) == (1, "")
    what, *versions, then = done.stderr.splitlines()
    assert what == f"apt cannot install version 27.5 of {refused}; it offers:"
    shown = {line.split()[2] for line in versions if " | " in line}
    assert shown == {one.split()[1] for one in offered if one.split()[0] == refused}
    assert (
        then == "nothing was installed. Correct engine_version. apt installs no version older than the installed one."
    )
    assert etc(apt) == before
    assert apt.leftovers == []


@needs_apt
@pytest.mark.parametrize(
    ("script", "code"), [("true", 0), ("false", 1), ("exit 3", 3), ("exit 0", 0), ("false; true", 1)]
)
def test_pin_in_a_scratch_directory_is_readable_for_apts_user_and_gone_however_the_script_ends(
    tmp_path: Path, script: str, code: int
) -> None:
    apt = Apt(tmp_path, (), (*ENGINES, *CLIENTS))
    inspect = f'stat -c %a "$scratch"; cat "$scratch/preferences/engine"; {script}'
    done = apt.run(under_pin(PINNED, PINNED.names, inspect))
    assert done.returncode == code, done.stderr
    assert done.stdout == f"755\n{PINNED.pin}"
    assert apt.leftovers == []
    assert etc(apt) == {}


def test_without_a_version_there_is_no_pin_to_be_under() -> None:
    assert get_command_string(under_pin(UNPINNED, PINNED.names, "something")) == "something"


def test_packages_are_installed_or_downloaded_waiting_for_apts_lock() -> None:
    install = get_command_string(install_command(["a", "b"], 600))
    assert install.endswith("-y --no-install-recommends --no-remove install a b")
    download = get_command_string(install_command(["a", "b"], 600, only_download=True))
    assert download.endswith("-y --no-install-recommends --no-remove --download-only install a b")
    change = get_command_string(install_command(["a", "b"], 600, may_remove=True))
    assert change.endswith("-y --no-install-recommends install a b")
    assert all(command.startswith("patience=600\n") for command in (install, download, change))


@needs_apt
@pytest.mark.parametrize("may_remove", [True, False])
def test_other_packages_go_for_new_ones_only_where_they_may(tmp_path: Path, may_remove: bool) -> None:
    apt = Apt(tmp_path, ["docker.io 20.10"], ["docker-ce 1.0"])
    with_fields(apt, "docker-ce", "Conflicts: docker.io")
    done = apt.run(install_command(["docker-ce"], 0, may_remove=may_remove))
    assert (done.returncode == 0) == may_remove, done.stderr
    assert ("Remv docker.io" in done.stdout) == may_remove


@needs_apt
@pytest.mark.parametrize("left", ["audit", "updates/0001"])
def test_what_a_cut_left_is_mended_first_by_apt_too_where_dpkg_lacks_something(tmp_path: Path, left: str) -> None:
    apt = Apt(tmp_path, (), (*ENGINES, *CLIENTS))
    (tmp_path / left).write_text("half\n")
    install = get_command_string(install_command(["docker-ce"], 0))
    for command in (
        install_command(["docker-ce"], 0),
        under_pin(PINNED, PINNED.names, install),
        purge_command(["a"], 0),
    ):
        (tmp_path / "log").unlink(missing_ok=True)
        assert apt.run(command).returncode == 0
        configure, mend = apt.log[:2]
        assert configure == "dpkg --configure"
        assert mend.endswith("-y --no-remove --fix-broken install")


@needs_apt
@pytest.mark.parametrize("what", ["install", "simulation", "purge"])
def test_repair_that_would_remove_packages_is_refused(tmp_path: Path, what: str) -> None:
    apt = Apt(tmp_path, (), (*ENGINES, *CLIENTS))
    (tmp_path / "audit").write_text("half\n")
    real = (tmp_path / "bin/apt-get").read_text()
    refusal = "echo 'E: Packages need to be removed but remove is disabled.' >&2; exit 100"
    (tmp_path / "bin/apt-get").write_text(
        real.replace("#!/bin/sh\n", f'#!/bin/sh\ncase "$*" in *"--no-remove --fix-broken"*) {refusal} ;; esac\n', 1)
    )
    done = apt.run(
        {
            "install": install_command(["docker-ce"], 0),
            "simulation": StringCommand(simulation_script(["docker-ce"], 0)),
            "purge": purge_command(["docker-ce"], 0),
        }[what]
    )
    assert done.returncode != 0
    assert "E: Packages need to be removed but remove is disabled." in done.stderr
    assert (
        "an installation that was cut before cannot be finished, for the reason above; no package was removed. `apt-get "
        "--simulate --fix-broken install` shows what apt would do: repair it, and run again" in done.stderr
    )
    assert not [line for line in apt.log if line.endswith("docker-ce")]


# -- purging


TOOLKIT = ("base 1.0", "toolkit 1.0 base")


@needs_apt
def test_packages_are_purged_and_unknown_names_passed_over(tmp_path: Path) -> None:
    apt = Apt(tmp_path, [*TOOLKIT, "app 1.0"])
    done = apt.run(purge_command(["base", "ghost", "toolkit"], 600))
    assert done.returncode == 0, done.stderr
    (purge,) = apt.log
    assert purge.endswith("-y purge base toolkit")
    assert "DPkg::Lock::Timeout=600" in purge
    assert "Purg app" not in done.stdout


@needs_apt
def test_package_that_is_removed_but_for_its_configuration_is_purged_too(tmp_path: Path) -> None:
    apt = Apt(tmp_path, TOOLKIT)
    status = (tmp_path / "status").read_text().replace("install ok installed", "deinstall ok config-files")
    (tmp_path / "status").write_text(status)
    assert apt.run(purge_command(["base", "toolkit"], 600)).returncode == 0
    assert apt.log[0].endswith("-y purge base toolkit")


@needs_apt
def test_packages_that_others_need_stay_all_of_them(tmp_path: Path) -> None:
    apt = Apt(tmp_path, [*TOOLKIT, "app 1.0 toolkit", "toolkit-extras 1.0 base"])
    done = apt.run(purge_command(["base", "toolkit"], 600))
    assert done.returncode == 1
    needed, _, others = done.stderr.removesuffix("; nothing was removed\n").partition(": ")
    assert needed == "these packages need base toolkit"
    assert sorted(others.split()) == ["app", "toolkit-extras"]
    assert apt.log == []


@needs_apt
def test_nothing_is_purged_where_dpkg_knows_none_of_them(tmp_path: Path) -> None:
    apt = Apt(tmp_path, ["app 1.0"])
    assert apt.run(purge_command(["ghost"], 600)).returncode == 0
    assert apt.log == []


@needs_apt
def test_purge_that_apt_refuses_fails(tmp_path: Path) -> None:
    apt = Apt(tmp_path, TOOLKIT)
    (tmp_path / "refuses").touch()
    assert apt.run(purge_command(["base", "toolkit"], 600)).returncode != 0


# -- waiting for other package managers: with the locks of apt and dpkg themselves, on a host that speaks German

DPKG_AND_ARCHIVES = ("frontend", "dpkg", "archives")
LOCKS = {"frontend": "lock-frontend", "dpkg": "lock", "lists": "state/lists/lock", "archives": "cache/archives/lock"}
GERMAN = {"LC_ALL": "C.UTF-8", "LANGUAGE": "de"}


class LockedApt(Apt):
    """The same apt, which takes its locks and does its work: dpkg alone is a stand-in that notes what apt asks of it."""

    def __init__(self, top: Path) -> None:
        super().__init__(top, ["old 1.0"], ["new 1.0"])
        deb = b"not much of a package"
        (top / "repository" / "new.deb").write_bytes(deb)
        sums = f"Size: {len(deb)}\nSHA256: {hashlib.sha256(deb).hexdigest()}"
        self.offer(self.packages.read_text().replace(f"Size: 1\nMD5sum: {0:032}", sums))
        takes_locks = {"Debug::NoLocking": "0", "Dir::Bin::dpkg": f"{top}/bin/dpkg-of-apt"}
        options = shlex.join([word for name, value in takes_locks.items() for word in ("-o", f"{name}={value}")])
        (top / "apt.conf").write_text('Dir::Etc::Parts "/dev/null";\n')  # none of this machine's hooks
        stand_in(top / "bin", "apt-get", f'APT_CONFIG={top}/apt.conf exec {self.apt_get} {options} "$@"')
        stand_in(
            top / "bin", "dpkg-of-apt", f'case "$*" in *--print-* | *--assert-*) ;; *) echo "$*" >>{top}/log ;; esac'
        )
        stand_in(top / "bin", "sleep", "exec /bin/sleep 0.8")

    @contextmanager
    def locked(self, lock: str, seconds: float = 60) -> Iterator[None]:
        """Hold a lock as apt and dpkg do, for some seconds or until the block ends."""
        with (self.top / LOCKS[lock]).open("w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            timer = threading.Timer(seconds, fcntl.lockf, (file, fcntl.LOCK_UN))
            timer.start()
            try:
                yield
            finally:
                timer.cancel()
                timer.join()


@pytest.fixture
def locked_apt(tmp_path: Path) -> LockedApt:
    return LockedApt(tmp_path)


WAITS: dict[str, tuple[str, Callable[[int], StringCommand], str]] = {
    **{
        f"install {lock}": (lock, lambda wait: install_command(["new"], wait), "--unpack") for lock in DPKG_AND_ARCHIVES
    },
    **{f"purge {lock}": (lock, lambda wait: purge_command(["old"], wait), "--purge") for lock in DPKG_AND_ARCHIVES},
    "download archives": ("archives", lambda wait: install_command(["new"], wait, only_download=True), ""),
    "update lists": ("lists", update_command, ""),
}


def refused_and_waited(apt: LockedApt, lock: str, command: Callable[[int], StringCommand]) -> list[Any]:
    """Run a command without patience while a lock is held, and with patience. Return its directory and both results, each with what was done."""
    with apt.locked(lock):
        refused = [apt.top, apt.run(command(0), **GERMAN), apt.log]
    with apt.locked(lock, seconds=2):
        return [*refused, apt.run(command(60), **GERMAN), apt.log]


@pytest.fixture(scope="module")
def waits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[list[Any]]]]:
    """Start all of them at once: what they do is wait."""
    with ThreadPoolExecutor(len(WAITS)) as pool:
        yield {
            name: pool.submit(refused_and_waited, LockedApt(tmp_path_factory.mktemp("apt")), lock, command)
            for name, (lock, command, _) in WAITS.items()
        }


@needs_apt
@pytest.mark.parametrize("name", WAITS)
def test_each_lock_of_another_package_manager_is_waited_for(waits: dict[str, Future[list[Any]]], name: str) -> None:
    lock, _, asked = WAITS[name]
    top, refused, before, done, after = waits[name].result()
    assert refused.returncode == 100
    assert f"E: Could not get lock {top}/{LOCKS[lock]}. " in refused.stderr
    assert before == []
    assert done.returncode == 0, done.stderr
    assert "Could not get lock" not in done.stderr
    assert asked in " ".join(after)


@needs_apt
def test_repair_waits_for_the_lock_that_dpkg_would_not_wait_for(locked_apt: LockedApt) -> None:
    top = locked_apt.top
    (top / "audit").write_text("half\n")
    configure = f'{shutil.which("dpkg")} --admindir={top} "$@" && echo "dpkg $1" >>{top}/log'
    stand_in(top / "bin", "dpkg", f"case $1 in --audit) cat {top}/audit ;; *) {configure} ;; esac")
    with locked_apt.locked("frontend", seconds=1.5):
        done = locked_apt.run(install_command(["new"], 60), **GERMAN)
    assert done.returncode == 0, done.stderr
    assert locked_apt.log[0] == "dpkg --configure"


@needs_apt
def test_other_errors_of_apt_are_not_waited_for(locked_apt: LockedApt) -> None:
    started = time.monotonic()
    done = locked_apt.run(install_command(["ghost"], 600), **GERMAN)
    assert (done.returncode, done.stderr) == (100, "E: Unable to locate package ghost\n")
    assert time.monotonic() - started < 60


@needs_apt
def test_nothing_is_left_of_the_messages(locked_apt: LockedApt) -> None:
    locked_apt.run(install_command(["ghost"], 0))
    assert list(locked_apt.top.rglob("apt-messages.*")) == []


@needs_apt
def test_messages_are_read_where_run_takes_no_file_and_apt_is_not_started_where_tmp_takes_none_either(
    locked_apt: LockedApt,
) -> None:
    """/run comes first: on a full root disk a file in /tmp stays empty."""
    mktemp = shutil.which("mktemp")
    stand_in(locked_apt.top / "bin", "mktemp", f'case $1 in */elsewhere/*) exec {mktemp} "$@" ;; esac; exit 1')
    (locked_apt.top / "elsewhere").mkdir()
    done = locked_apt.run(install_command(["ghost"], 0))
    assert (done.returncode, done.stderr) == (100, "E: Unable to locate package ghost\n")
    (locked_apt.top / "elsewhere").rmdir()
    done = locked_apt.run(install_command(["new"], 0))
    assert done.returncode == 1
    assert done.stderr == "neither /run nor /tmp takes a file for the messages of apt and dpkg: neither was started\n"
    assert locked_apt.log == []


# -- simulating


def with_fields(apt: Apt, package: str, fields: str) -> None:
    """Give a package that the repository offers more control fields."""
    head = f"Package: {package}\n"
    apt.offer(apt.packages.read_text().replace(head, f"{head}{fields}\n"))


def simulation(packages: Sequence[str], *may_remove: str) -> StringCommand:
    return StringCommand(simulation_script(packages, 0, may_remove))


@needs_apt
def test_simulation_passes_where_apt_removes_nothing_or_what_it_may(tmp_path: Path) -> None:
    apt = Apt(tmp_path, ["containerd 1.7 runc", "runc 1.1", "plugin 1.0"], ["containerd.io 2.1", "other 1.0"])
    with_fields(apt, "containerd.io", "Conflicts: containerd, runc")
    for command in (
        simulation(["other"]),
        simulation(["containerd.io"], "containerd", "runc"),
        simulation(["containerd.io", "plugin-"], "containerd", "runc", "plugin"),
    ):
        done = apt.run(command)
        assert (done.returncode, done.stderr) == (0, "")
    assert apt.log == []


@needs_apt
def test_simulation_names_what_apt_would_remove_and_nobody_agreed_to(tmp_path: Path) -> None:
    apt = Apt(tmp_path, ["containerd 1.7 runc", "runc 1.1", "podman 4.3 runc"], ["containerd.io 2.1"])
    with_fields(apt, "containerd.io", "Conflicts: containerd, runc")
    done = apt.run(simulation(["containerd.io"], "containerd", "runc"))
    assert done.returncode == 1
    assert done.stderr == (
        "to install containerd.io, apt would remove podman. Neither was done. This run has changed nothing but apt: it has "
        "updated the lists, and it may have added repositories, installed gpg and ca-certificates to verify them, and finished "
        "an installation that was cut before. Remove them yourself if this host does not need them, or leave this host out.\n"
    )
    done = apt.run(simulation(["containerd.io"]))
    assert done.stderr.startswith(
        "to install containerd.io, apt would remove containerd podman runc. Neither was done. "
    )
    assert apt.log == []


@needs_apt
def test_simulation_says_why_apt_cannot_install(tmp_path: Path) -> None:
    apt = Apt(tmp_path, (), ["docker-ce 29.1 containerd.io"])
    done = apt.run(simulation(["docker-ce"]), **GERMAN)
    assert done.returncode == 1
    assert "docker-ce : Depends: containerd.io but it is not installable" in done.stderr
    assert "apt cannot install docker-ce, for the reason above. This run has changed nothing but apt: " in done.stderr
    assert apt.run(simulation(["ghost"])).stderr.startswith("E: Unable to locate package ghost\n")


@needs_apt
def test_simulation_passes_under_a_pin(tmp_path: Path) -> None:
    apt = Apt(tmp_path, ["docker-ce 5:26.0.0-1"], (*ENGINES, *CLIENTS))
    done = apt.run(under_pin(PINNED, PINNED.names, simulation_script(PINNED.names, 0)))
    assert (done.returncode, done.stderr) == (0, "")


@needs_apt
def test_user_of_apt_can_read_what_a_pin_is_tried_with(tmp_path: Path) -> None:
    apt = Apt(tmp_path, (), (*ENGINES, *CLIENTS))
    done = apt.run(under_pin(PINNED, PINNED.names, 'stat -c %a "${APT_CONFIG%/*}"'))
    assert (done.returncode, done.stdout) == (0, "755\n")


@needs_apt
def test_simulation_under_a_pin_names_the_versions_there_are(tmp_path: Path) -> None:
    apt = Apt(tmp_path, (), (*ENGINES[2:], *CLIENTS[2:]))
    done = apt.run(under_pin(PINNED, PINNED.names, simulation_script(PINNED.names, 0)))
    assert done.returncode == 1
    assert "apt cannot install version 27.5 of docker-ce; it offers:" in done.stderr


def test_apt_never_waits_for_ever_when_the_time_is_over(tmp_path: Path) -> None:
    """It would with a negative timeout."""
    stand_in(tmp_path, "date", f"echo x >>{tmp_path}/clock; echo $(($(wc -l <{tmp_path}/clock) * 100))")
    stand_in(tmp_path, "sleep", "")
    stand_in(
        tmp_path,
        "apt-get",
        f"echo \"$3\" >>{tmp_path}/calls; echo 'E: Could not get lock /var/lib/dpkg/lock' >&2; exit 100",
    )
    done = shell(f"{update_command(150)}", tmp_path)
    assert done.returncode == 100
    assert done.stderr == "E: Could not get lock /var/lib/dpkg/lock\n"
    assert (tmp_path / "calls").read_text().split() == [f"DPkg::Lock::Timeout={left}" for left in (150, 50, 0)]


def test_what_a_cut_has_left_is_repaired_before_anything_is_simulated() -> None:
    script = simulation_script(["lvm2"], 0)
    assert script.index("repair || exit 1; planned") < script.index("--simulate install")


def test_package_that_is_not_configured_yet_is_installed() -> None:
    host = OperationHost({PackageStates: {"lvm2": "half-configured", "cron": "installed", "xfsprogs": "unpacked"}})
    _, install = commands(installed, host, packages=["lvm2", "cron", "xfsprogs", "parted"], lock_timeout=0)
    assert install.endswith(" install lvm2 xfsprogs parted")
