"""The engine: installed, and upgraded without taking what runs by surprise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tasks import engine
from tasks.engine import Consent, EngineInstallation, EngineState
from tasks.support.gpu import GpuContainers
from tasks.support.package_names import ENGINE, ENGINE_PINNED
from tasks.support.packages import Offer, Offered, Pinned
from tasks.support.paths import DOCKER_PATIENCE, DOCKER_PIN, STOPPED_BY_UPGRADE

from .example_hosts import bare_host, settings, shared_vg
from .operations import OperationHost, commands, shell, stand_in
from .preflight.verdicts import plan_of

OLD = dict.fromkeys(ENGINE["docker-ce"], "1.0-1") | {"docker-ce": "5:27.5.0-1", "docker-ce-cli": "5:27.5.0-1"}


def pinned(version: str) -> Pinned:
    return Pinned(ENGINE_PINNED["docker-ce"], version, DOCKER_PIN, "engine_version")


def upgrade(
    installed: dict[str, str],
    version: str = "",
    *,
    live_restore: bool = True,
    stop_containers: bool = True,
    change_engine: bool = False,
    pin: str | None = None,
    **state: Any,
) -> list[str]:
    """What is done on a host with these packages on the way to a version, whose pin is in place unless another is given."""
    wanted = pinned(version)
    offer = Offer(installed, frozenset(), wanted.pin if pin is None else pin)
    host = OperationHost(
        {EngineInstallation: EngineState(offer, **{"running": True} | state), GpuContainers: ["train"]}
    )
    done = commands(
        engine.engine,
        host,
        source="docker-ce",
        pinned=wanted,
        consent=Consent(change_engine, stop_containers, live_restore),
        lock_timeout=600,
    )
    installs = any(" install " in command for command in done)
    assert host.logged == [
        message for message in host.logged if "Docker is restarted while containers with GPUs" in message
    ]
    assert bool(host.logged) == installs, "GPUs are named when Docker is restarted, and only then"
    return done


def installation(done: list[str]) -> str:
    """The command among them that installs."""
    (found,) = [command for command in done if " install " in command]
    return found


def stops(done: list[str]) -> bool:
    return any("docker stop" in command for command in done)


def test_engine_that_is_there_and_runs_is_left_alone() -> None:
    assert upgrade(OLD) == []
    assert upgrade(OLD, "27.5.0") == []


@pytest.mark.parametrize(
    ("version", "live_restore", "stopped"),
    [("27.5.1", True, False), ("27.5.1", False, True), ("27.6", True, True), ("28.5.0", True, True)],
)
def test_containers_are_stopped_for_a_step_that_they_do_not_outlive(
    version: str, live_restore: bool, stopped: bool
) -> None:
    assert stops(upgrade(OLD, version, live_restore=live_restore)) == stopped


@pytest.mark.parametrize("live_restore", [True, False])
def test_package_that_is_missing_beside_an_engine_at_its_version_stops_nothing(live_restore: bool) -> None:
    without = {name: version for name, version in OLD.items() if name != "apparmor"}
    assert not stops(upgrade(without, "27.5.0", live_restore=live_restore))
    assert not stops(upgrade(OLD | {"docker-ce-cli": "5:26.0.0-1"}, "27.5.0", live_restore=live_restore))
    assert not stops(upgrade(without, live_restore=live_restore))


def test_only_what_is_missing_or_at_another_version_is_installed() -> None:
    without = {name: version for name, version in OLD.items() if name != "apparmor"}
    assert installation(upgrade(without)).endswith(" install apparmor")
    assert " install docker-ce docker-ce-cli;" in installation(upgrade(OLD, "28.5"))


@pytest.mark.parametrize("version", ["", "28.5"])
def test_other_packages_go_only_where_the_engine_may_change(version: str) -> None:
    installed = OLD if version else {}
    keeps = "--no-install-recommends --no-remove"
    assert keeps in installation(upgrade(installed, version))
    assert keeps not in installation(upgrade(installed, version, change_engine=True))


def test_engine_that_a_cut_upgrade_has_left_unpacked_is_finished_without_asking_it() -> None:
    half = {name: version for name, version in OLD.items() if name != "docker-ce"}
    done = upgrade(half, "28.5", stopped=True, running=False)
    assert not stops(done)
    assert "docker start" in done[-1]


def test_pin_is_written_after_the_installation_and_what_ran_starts_last() -> None:
    update, install, pin, running, start = upgrade(OLD, "28.5", pin="an older one\n")
    assert "update" in update
    assert "--download-only" in install
    assert f"{DOCKER_PIN}.new" in pin
    assert "systemctl enable" in running
    assert start == engine._START_STOPPED


def test_pin_alone_is_written_or_removed_and_docker_left_alone() -> None:
    (pin,) = upgrade(OLD, "27.5.0", pin="")
    assert f"{DOCKER_PIN}.new" in pin
    assert upgrade(OLD, pin="an older one\n") == [f"rm {DOCKER_PIN}"]


def test_without_a_version_nothing_is_checked_or_pinned() -> None:
    update, install, running, start = upgrade({})
    assert install.endswith(f"install {' '.join(ENGINE['docker-ce'])}")
    assert not any("preferences" in command for command in (update, install, running, start))


def test_what_a_cut_run_has_stopped_is_started_by_the_next() -> None:
    assert upgrade(OLD, stopped=True) == [engine._START_STOPPED]
    _, start = upgrade(OLD, stopped=True, running=False)
    assert start == engine._START_STOPPED


def test_docker_that_does_not_run_is_started_and_nothing_is_installed() -> None:
    (start,) = upgrade(OLD, running=False)
    assert start.startswith("systemctl reset-failed docker.service containerd.service")
    assert "systemctl enable --quiet --no-reload " in start


@pytest.mark.parametrize(("answers", "does"), [("true", 0), ("exit 1", 1)])
def test_docker_runs_when_its_own_socket_answers(tmp_path: Path, answers: str, does: int) -> None:
    (start,) = upgrade(OLD, running=False)
    for program in ("systemctl", "journalctl"):
        stand_in(tmp_path, program, f'echo "{program} $1" >>{tmp_path}/done')
    stand_in(tmp_path, "docker", f'[ "$*" = "--host unix:///run/docker.sock version" ] || exit 1; {answers}')
    done = shell(start, tmp_path, DOCKER_HOST="tcp://192.0.2.1")
    assert done.returncode == does
    assert ("Docker does not start" in done.stderr) == bool(does)
    assert (tmp_path / "done").read_text().split("\n")[:3] == [
        f"systemctl {v}" for v in ("reset-failed", "enable", "start")
    ]


def test_package_of_some_releases_is_installed_where_the_new_lists_have_it() -> None:
    new_lists = Offer({}, frozenset({"docker-cli"}))
    host = OperationHost({EngineInstallation: EngineState(Offer({}, frozenset())), Offered: new_lists})
    _, install, *_ = commands(
        engine.engine,
        host,
        source="distro",
        pinned=Pinned((), "", DOCKER_PIN, "engine_version"),
        consent=Consent(change_engine=False, stop_containers=False, live_restore=True),
        lock_timeout=600,
    )
    assert install.endswith("install docker.io apparmor ca-certificates docker-cli")


def test_plugin_of_the_distribution_goes_with_consent_because_apt_sees_no_conflict() -> None:
    beside = {"docker-buildx": "0.13.1", "docker-compose": "1.29.2-3", "containerd": "1.7"}
    all_of_it = " ".join(ENGINE["docker-ce"])
    assert installation(upgrade(beside, change_engine=True)).endswith(f" install {all_of_it} docker-buildx-")
    assert installation(upgrade(beside)).endswith(f" install {all_of_it}")


def test_plugin_of_dockers_keeps_the_distributions_out() -> None:
    found = Offer({"docker-buildx-plugin": "0.30"}, frozenset({"docker-buildx"}))
    host = OperationHost({EngineInstallation: EngineState(found), Offered: found})
    _, install, *_ = commands(
        engine.engine,
        host,
        source="distro",
        pinned=Pinned((), "", DOCKER_PIN, "engine_version"),
        consent=Consent(change_engine=False, stop_containers=False, live_restore=True),
        lock_timeout=600,
    )
    assert install.endswith("install docker.io apparmor ca-certificates")


@pytest.mark.parametrize(
    "down", ["", *(f"{verb} {unit}" for verb in ("is-active", "is-enabled") for unit in ("docker", "containerd"))]
)
def test_engine_runs_where_both_of_its_daemons_do(tmp_path: Path, down: str) -> None:
    state = f'[ "$verb $unit" != "{down}.service" ] && echo "$up" || echo no'
    up = "case $verb in is-active) up=active ;; is-enabled) up=enabled ;; esac"
    stand_in(tmp_path, "systemctl", f"verb=$1; shift; {up}; for unit; do {state}; done")
    (tmp_path / "stopped").touch()
    command = EngineInstallation().command([]).replace(STOPPED_BY_UPGRADE, f"{tmp_path}/stopped")
    found = EngineInstallation().process(shell(command, tmp_path).stdout.splitlines())
    assert found.running == (not down)
    assert found.stopped
    assert (
        not EngineInstallation()
        .process(shell(command.replace("stopped ]", "none ]"), tmp_path).stdout.splitlines())
        .stopped
    )


@pytest.mark.parametrize(("source", "added"), [("docker-ce", True), ("distro", False), ("present", False)])
def test_dockers_repository_is_added_for_its_own_engine_alone(
    monkeypatch: pytest.MonkeyPatch, source: str, added: bool
) -> None:
    keys: list[str] = []
    monkeypatch.setattr(engine, "repository", lambda **given: keys.append(given["key_url"]))
    plan = replace(plan_of(bare_host(), shared_vg()), engine=source)
    for wanted in (settings(docker_repository="https://a/docker"), settings(docker_repository_key="https://b/key")):
        engine.add_repository._inner(wanted, plan)  # type: ignore[attr-defined]
    assert keys == (["https://a/docker/debian/gpg", "https://b/key"] if added else [])


# -- the scripts that stop containers and start them again, with stand-ins for Docker, systemd and apt


class UpgradeHost:
    """A host with Docker 27.5.0 and containers, each a file that says "running" or "stopped".

    Names tell how a container behaves: `rm-…` goes when it is stopped; `gone-…` is gone before that; `restless-…` always
    runs again; `broken-…` never starts; `needs-X` starts only where X runs.
    """

    def __init__(self, top: Path, running: str = "", docker: str = "active") -> None:
        self.top = top
        for name in ("bin", "containers", "preferences.d"):
            (top / name).mkdir()
        self.stopped = top / "state" / "stopped"
        self.patience = str(DOCKER_PATIENCE)
        (top / "created").touch()
        self.run(running)
        (top / "docker").write_text(docker)
        (top / "processes").write_text("/usr/sbin/sshd -D\nsh -c grep containerd-shim\n")
        (top / "install").write_text("")
        (top / "on-stop").write_text("")
        stand_in(
            top / "bin",
            "docker",
            f"""cd {top}/containers; verb=$1; shift
            read -r state <../docker
            [ "$DOCKER_HOST" = unix:///run/docker.sock ] && [ "$state" = active ] ||
                {{ echo 'Cannot connect to the Docker daemon' >&2; exit 1; }}
            failed=
            case $verb in
                ps) case "$*" in
                        "--quiet --no-trunc") wanted=running ;; "--all --quiet --no-trunc") wanted="*" ;; *) exit 2 ;;
                    esac
                    tac ../created | while read -r name; do
                        [ -e "$name" ] && read -r state <"$name" && case $state in $wanted) echo "$name" ;; esac; done ;;
                inspect) [ "$1" != --format ] || shift 2
                    for name; do [ -e "$name" ] && echo "/$name" || failed=yes; done ;;
                stop) echo "stop $*" >>../log
                    . ../on-stop
                    for name; do case $name in
                        gone-*) rm "$name"; failed=yes ;; rm-*) rm "$name" ;; restless-*) ;;
                        *) echo stopped >"$name" ;;
                    esac; done ;;
                start) echo "start $*" >>../log
                    for name; do case $name in
                        broken-*) failed=yes ;;
                        needs-*) grep -qs running "${{name#needs-}}" && echo running >"$name" || failed=yes ;;
                        *) [ -e "$name" ] && echo running >"$name" || failed=yes ;;
                    esac; done ;;
            esac
            [ ! "$failed" ]""",
        )
        scripts = {
            "systemctl": f"""case $1 in
                is-active) read -r state <{top}/docker; case $state in active | mute) ;; *) exit 3 ;; esac ;;
                reset-failed) rm -f {top}/limited; exit 1 ;; # as for a unit that systemd has not loaded
                start) [ ! -e {top}/limited ] || exit 1; echo "systemctl $*" >>{top}/log; echo active >{top}/docker ;;
            esac""",
            "pgrep": f'[ "$1" = -f ] && grep -qE "$2" {top}/processes',
            "dpkg": "",
            "apt-cache": f"echo '  Candidate: 5:28.5.0-1'; cp $(cut -d'\"' -f2 $APT_CONFIG)/docker-bulkhead {top}/pin",
            "apt-get": f"""case "$*" in
                *--download-only*) echo download >>{top}/log; [ ! -e {top}/no-network ] || exit 100 ;;
                *) echo install >>{top}/log; cat {top}/containers/* >{top}/meanwhile 2>/dev/null; . {top}/install ;;
            esac""",
        }
        for name, script in scripts.items():
            stand_in(top / "bin", name, script)

    def run(self, names: str) -> None:
        """Have containers that run, the oldest first."""
        with (self.top / "created").open("a") as created:
            for name in names.split():
                (self.top / "containers" / name).write_text("running\n")
                created.write(f"{name}\n")

    def upgrade(self, *, consent: bool = True, **state: Any) -> CompletedProcess[str]:
        """What a run does to go on to Docker 28.5, up to the pin."""
        return self._shell(installation(upgrade(OLD, "28.5", stop_containers=consent, **state)), pinned("28.5").pin)

    def start(self) -> CompletedProcess[str]:
        return self._shell(upgrade(OLD, stopped=True)[-1])

    def hang(self) -> None:
        """Docker does not answer any more, and the scripts wait for it a short time only."""
        stand_in(self.top / "bin", "docker", "exec sleep 60")
        self.patience = "0.2"

    def _shell(self, script: str, stdin: str = "") -> CompletedProcess[str]:
        script = script.replace(f"timeout {DOCKER_PATIENCE} docker", f"timeout {self.patience} docker")
        for path, here in (
            (STOPPED_BY_UPGRADE, self.stopped),
            ("/etc/apt/preferences.d", self.top / "preferences.d"),
            ("/tmp/with-pin", self.top / "with-pin"),
        ):
            script = script.replace(path, str(here))
        return shell(script, self.top / "bin", stdin=stdin, DOCKER_HOST="tcp://192.0.2.1")

    @property
    def ran_meanwhile(self) -> bool:
        return "running" in (self.top / "meanwhile").read_text()

    @property
    def running(self) -> set[str]:
        return {path.name for path in (self.top / "containers").iterdir() if path.read_text().strip() == "running"}

    @property
    def noted(self) -> list[str]:
        return self.stopped.read_text().split() if self.stopped.exists() else []

    @property
    def log(self) -> list[str]:
        return (self.top / "log").read_text().splitlines() if (self.top / "log").exists() else []

    @property
    def started(self) -> list[str]:
        return [line.removeprefix("start ") for line in self.log if line.startswith("start ")]


def test_upgrade_fetches_first_then_stops_all_that_runs_and_leaves_word_of_it_oldest_first(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, "web c2 app")
    assert machine.upgrade().returncode == 0
    assert machine.log == ["download", "stop app c2 web", "install"]
    assert not machine.ran_meanwhile
    assert machine.noted == ["web", "c2", "app"]
    assert (tmp_path / "pin").read_text() == pinned("28.5").pin
    assert machine.start().returncode == 0
    assert sorted(machine.started) == ["app", "c2", "web"]  # side by side
    assert not machine.stopped.exists()


def test_list_of_what_ran_is_on_disk_before_anything_is_stopped(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, "web")
    for program in ("sync", "mv"):
        does = "" if program == "sync" else 'exec /bin/mv "$@"'
        stand_in(tmp_path / "bin", program, f'echo "{program} $*" >>{tmp_path}/log\n{does}')
    assert machine.upgrade().returncode == 0
    stopped = machine.stopped
    assert machine.log == [
        "download",
        f"sync {stopped}.new",
        f"mv -T {stopped}.new {stopped}",
        f"sync {stopped.parent}",
        "stop web",
        "install",
    ]


def test_container_that_does_not_give_in_is_stopped_five_times_and_no_more(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, "restless-1")
    assert machine.upgrade().returncode == 1
    assert machine.log.count("stop restless-1") == 5


@pytest.mark.parametrize("consent", [True, False])
def test_host_without_running_containers_is_upgraded_too(tmp_path: Path, consent: bool) -> None:
    machine = UpgradeHost(tmp_path)
    assert machine.upgrade(consent=consent).returncode == 0
    assert machine.log == ["download", "install"]
    assert machine.noted == []


def test_container_that_runs_by_now_is_not_stopped_without_consent(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, "web")
    done = machine.upgrade(consent=False)
    assert done.returncode == 1
    assert done.stderr == (
        "containers have started meanwhile and would not survive this upgrade; nothing was upgraded. "
        "Stop them, or set engine_upgrade_stops_containers = True: the run then stops them and starts them again.\n"
    )
    assert (machine.running, machine.log, machine.noted) == ({"web"}, [], [])


def test_step_that_was_begun_needs_no_consent(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, "web")
    assert machine.upgrade(consent=False, stopped=True).returncode == 0
    assert machine.noted == ["web"]


def test_containers_without_their_docker_are_no_reason_to_go_on(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, "web", docker="failed")
    (tmp_path / "processes").write_text("/usr/bin/containerd-shim-runc-v2 -namespace moby -id web\n")
    done = machine.upgrade()
    assert done.returncode == 1
    assert "Docker is down, but its containers still run; nothing was upgraded" in done.stderr
    assert machine.log == []


def test_docker_that_is_down_without_containers_is_upgraded(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, docker="failed")
    assert machine.upgrade().returncode == 0
    assert machine.log == ["download", "install"]


@pytest.mark.parametrize("consent", [True, False])
def test_docker_that_does_not_answer_is_not_upgraded(tmp_path: Path, consent: bool) -> None:
    machine = UpgradeHost(tmp_path, "web", docker="mute")
    done = machine.upgrade(consent=consent)
    assert done.returncode == 1
    assert "Docker does not say which containers run; nothing was upgraded" in done.stderr
    assert machine.log == []


def test_docker_that_hangs_does_not_hold_the_run_up_for_ever(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, "web")
    machine.hang()
    done = machine.upgrade()
    assert done.returncode == 1
    assert "Docker does not say which containers run; nothing was upgraded" in done.stderr
    (tmp_path / "state").mkdir(exist_ok=True)
    machine.stopped.write_text("web\n")
    assert machine.start().returncode == 1
    assert machine.noted == ["web"]


def test_packages_that_cannot_be_fetched_stop_nothing(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, "web")
    (tmp_path / "no-network").touch()
    assert machine.upgrade().returncode == 100
    assert (machine.running, machine.log, machine.noted) == ({"web"}, ["download"], [])


def test_container_that_starts_in_between_is_stopped_and_noted_too(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, "web")
    (tmp_path / "on-stop").write_text("grep -qx late ../created || { echo late >>../created; echo running >late; }\n")
    assert machine.upgrade().returncode == 0
    assert not machine.ran_meanwhile
    assert machine.noted == ["web", "late"]


def test_containers_that_go_when_they_are_stopped_or_before_are_no_failure(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, "gone-1 web rm-1")
    assert machine.upgrade().returncode == 0
    assert not machine.ran_meanwhile
    assert machine.noted == ["gone-1", "web", "rm-1"]
    assert machine.start().returncode == 0
    assert machine.started == ["web"]
    assert machine.noted == []


def test_container_that_always_runs_again_keeps_the_old_engine_with_all_that_ran(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, "web restless-1")
    done = machine.upgrade()
    assert done.returncode == 1
    assert "containers cannot be stopped: restless-1" in done.stderr
    assert "install" not in machine.log
    assert machine.running == {"web", "restless-1"}
    assert not machine.stopped.exists(), "the next upgrade would take it for its own"


def test_container_that_gives_in_at_the_fifth_time_is_no_obstacle(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, "web restless-1")
    (tmp_path / "on-stop").write_text("echo >>../tries; [ $(wc -l <../tries) -lt 5 ] || echo stopped >restless-1\n")
    assert machine.upgrade().returncode == 0
    assert machine.log[-2:] == ["stop restless-1", "install"]
    assert not machine.ran_meanwhile


def test_docker_that_fails_while_containers_are_stopped_is_started_again_with_them(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, "web app")
    (tmp_path / "on-stop").write_text("echo failed >../docker; : >../on-stop\n")
    assert machine.upgrade().returncode == 1
    assert "install" not in machine.log
    assert "systemctl start docker.service" in machine.log
    assert machine.running == {"web", "app"}
    assert machine.noted == []


def test_upgrade_that_apt_refuses_ends_with_the_old_engine_and_what_ran_running(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, "web app rm-1")
    # After too many failures systemd starts no unit until they are reset.
    (tmp_path / "install").write_text(f"echo failed >{tmp_path}/docker; touch {tmp_path}/limited; exit 100")
    assert machine.upgrade().returncode == 1
    assert machine.log[3] == "systemctl start docker.service"
    assert sorted(machine.log[4:]) == ["start app", "start web"]
    assert machine.running == {"web", "app"}
    assert not machine.stopped.exists()


def test_upgrade_that_apt_refuses_says_no_more_where_no_container_ran(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path)
    (tmp_path / "install").write_text("echo 'E: no' >&2; exit 100")
    done = machine.upgrade()
    assert (done.returncode, done.stderr) == (1, "E: no\n")


def test_upgrade_that_apt_refuses_names_what_does_not_start_again(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, "web broken-1")
    (tmp_path / "install").write_text("exit 100")
    done = machine.upgrade()
    assert done.returncode == 1
    assert done.stderr.endswith("they do not start again (docker start says why): /broken-1\n")
    assert machine.running == {"web"}
    assert not machine.stopped.exists()


@pytest.mark.parametrize("at", ["before it stops", "after it has stopped", "in dpkg"])
def test_upgrade_that_is_cut_is_finished_by_the_next_run_which_starts_all_that_ran(tmp_path: Path, at: str) -> None:
    machine = UpgradeHost(tmp_path, "web app rm-1")
    if at == "in dpkg":
        (tmp_path / "install").write_text("kill -9 $PPID")
    else:
        stop = "for name; do echo stopped >$name; done; " if at == "after it has stopped" else ""
        script = "$(awk '/^PPid:/ { print $2 }' /proc/$PPID/status)"  # beyond the timeout
        (tmp_path / "on-stop").write_text(f"{stop}kill -9 {script}; exit")
    assert machine.upgrade().returncode == -9
    assert machine.noted == ["web", "app", "rm-1"]
    (tmp_path / "on-stop").write_text("")
    (tmp_path / "install").write_text("")
    machine.run("since")  # by somebody, before the next run
    assert machine.upgrade(consent=False, stopped=True).returncode == 0
    assert not machine.ran_meanwhile
    assert machine.noted == ["web", "app", "rm-1", "since"]
    assert machine.start().returncode == 0
    assert machine.running >= {"web", "app", "since"}
    assert not machine.stopped.exists()


# -- what starts again


def stopped(top: Path, names: str) -> UpgradeHost:
    """A host whose upgrade is over, and has stopped these."""
    machine = UpgradeHost(top, names)
    assert machine.upgrade().returncode == 0
    (top / "log").unlink()
    return machine


def test_container_whose_provider_starts_after_it_is_tried_once_more(tmp_path: Path) -> None:
    machine = stopped(tmp_path, "needs-proxy web proxy")
    assert machine.start().returncode == 0
    assert machine.running == {"needs-proxy", "web", "proxy"}


def test_chain_of_providers_starts_link_by_link(tmp_path: Path) -> None:
    machine = stopped(tmp_path, "needs-needs-needs-proxy needs-needs-proxy needs-proxy proxy")
    assert machine.start().returncode == 0
    assert len(machine.running) == 4


def test_containers_start_side_by_side(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(40)]
    machine = stopped(tmp_path, " ".join(names))
    docker = (tmp_path / "bin/docker").read_text()
    # Each waits until another one starts too.
    waiting = '[ "$1" != start ] || { touch $2.starts; n=0; until [ $(ls | grep -c starts) -gt 1 ] || [ $n = 50 ]; do sleep 0.1; '
    waiting += "n=$((n + 1)); done; [ $n != 50 ] || exit 1; }"
    assert docker.count("verb=$1; shift") == 1
    stand_in(tmp_path / "bin", "docker", docker.replace("verb=$1; shift", f"{waiting}; verb=$1; shift"))
    assert machine.start().returncode == 0
    assert set(names) <= {*machine.started}


def test_those_that_do_not_start_are_named_once_and_the_others_run(tmp_path: Path) -> None:
    machine = stopped(tmp_path, "broken-1 rm-1 web broken-2")
    done = machine.start()
    assert done.returncode == 1
    before, _, names = done.stderr.partition("(docker start says why): ")
    assert before
    assert sorted(names.split()) == ["/broken-1", "/broken-2"]
    assert machine.running == {"web"}
    # Else it would stand for consent to whatever comes next.
    assert not machine.stopped.exists()


def test_docker_that_does_not_answer_makes_none_of_them_forgotten(tmp_path: Path) -> None:
    machine = stopped(tmp_path, "web app")
    (tmp_path / "docker").write_text("failed")
    assert machine.start().returncode == 1
    assert machine.noted == ["web", "app"]


def test_nothing_that_was_stopped_is_nothing_to_start(tmp_path: Path) -> None:
    machine = UpgradeHost(tmp_path, docker="failed")
    assert machine.start().returncode == 0
    machine.stopped.parent.mkdir()
    machine.stopped.touch()
    assert machine.start().returncode == 0
    assert not machine.stopped.exists()
