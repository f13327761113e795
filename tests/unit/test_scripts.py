"""The commands of scripts/, run in a checkout of their own, with stand-ins for what they install and start."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from lab import with_system_directories

TOP = Path(__file__).parent.parent.parent
SOURCES = sorted((TOP / "scripts").iterdir())
SCRIPTS = [path.name for path in SOURCES if os.access(path, os.X_OK)]
INSTALLERS = ("apt-get", "sudo", "dpkg-query")


class Checkout:
    """The scripts in a directory of their own; what they call is written down.

    Args:
        python: the python3 of the machine, without the project's packages.
    """

    def __init__(self, top: Path, python: Path) -> None:
        self.top = top / "checkout"
        self.bin = top / "bin"
        self.log = top / "log"
        self.link(*(f"scripts/{path.name}" for path in SOURCES), "requirements.lock", "files", "tests/mutants.toml")
        self.bin.mkdir()
        self.environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "HOME": str(top / "home"),
            "BULKHEAD_CACHE": str(top / "cache"),
            "LOG": str(self.log),
        }
        for name in INSTALLERS:
            self.stand_in(name)
        (self.bin / "python3").symlink_to(python)

    def link(self, *names: str) -> None:
        """Have these files and directories of the project here too."""
        for name in names:
            (self.top / name).parent.mkdir(parents=True, exist_ok=True)
            (self.top / name).symlink_to(TOP / name)

    def stand_in(self, name: str, body: str = "", directory: Path | None = None) -> None:
        """Put a program in the place of another one. It writes its own name and its arguments down first."""
        path = (directory or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name}" "$@" >>"$LOG"\n{body}\n')
        path.chmod(0o755)

    def with_venv(self, **programs: str) -> None:
        """Have a virtual environment that is up to date, with these programs in it, and every Debian package."""
        for name, body in programs.items():
            self.stand_in(name, body, self.top / ".venv/bin")
        shutil.copy(self.top / "requirements.lock", self.top / ".venv")
        self.stand_in("dpkg-query", "printf '%s:installed ' \"$@\"")
        for name in ("prometheus", "prometheus-node-exporter"):
            Path(self.environment["BULKHEAD_CACHE"], "unpacked", name).mkdir(parents=True)

    def run(self, script: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        self.log.unlink(missing_ok=True)
        return subprocess.run(
            [self.top / "scripts" / script, *arguments],
            cwd=cwd or self.top,
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )

    def calls(self, *programs: str) -> list[str]:
        """What was called, of these programs."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.split()[0] in programs]


@pytest.fixture
def checkout(tmp_path: Path, plain_python: Path) -> Checkout:
    return Checkout(tmp_path, plain_python)


APT_WITH_BACKPORTS = """
case $* in
    indextargets*) echo "Debian bookworm-updates mirror:/debian"; echo "Debian bookworm mirror:/debian" ;;
    *download*) touch qemu.deb ;;
esac
"""


@pytest.mark.parametrize(
    ("environment", "cache"),
    [
        ({"BULKHEAD_CACHE": "/c", "HOME": "/h"}, "/c"),
        ({"HOME": "/h"}, "/h/.cache/docker-bulkhead"),
        ({}, ".home/.cache/docker-bulkhead"),
    ],
    ids=["named", "at home", "without a home"],
)
def test_what_is_brought_along_has_one_place(checkout: Checkout, environment: dict[str, str], cache: str) -> None:
    body = 'usage() { :; }\nset -eu\n. "$(dirname "$0")/lib.sh"\nneed_unpacked box\necho "$PATH"'
    checkout.stand_in("unpack", body, checkout.top / "scripts")
    checkout.stand_in("mkdir")
    for name in ("mv", "rm", "dpkg-deb"):
        checkout.stand_in(name)
    checkout.stand_in("apt-get")
    checkout.environment = {"PATH": checkout.environment["PATH"], "LOG": str(checkout.log), **environment}
    done = checkout.run("unpack")
    place = cache if cache.startswith("/") else f"{checkout.top}/{cache}"
    assert f"unpacking box into {place}/unpacked\n" in done.stderr
    texts = [(TOP / "scripts" / name).read_text() for name in (*SCRIPTS, "lib.sh")]
    assert sum(text.count("/.cache/docker-bulkhead}") for text in texts) == 1


@pytest.mark.parametrize("runs", [True, False], ids=["runs here", "does not run here"])
def test_newer_qemu_is_unpacked_once_where_it_runs(checkout: Checkout, runs: bool) -> None:
    checkout.stand_in(
        "newer", 'usage() { :; }\n. "$(dirname "$0")/lib.sh"\nunpack_newer_qemu', checkout.top / "scripts"
    )
    checkout.stand_in("apt-get", APT_WITH_BACKPORTS)
    program = f'mkdir -p "$3/usr/bin"; ln -s /bin/{str(runs).lower()} "$3/usr/bin/qemu-system-x86_64"'
    checkout.stand_in("dpkg-deb", program)
    unpacked = Path(checkout.environment["BULKHEAD_CACHE"]) / "unpacked"
    done = checkout.run("newer")
    assert done.returncode == 0, done.stderr
    _, update, download = checkout.calls("apt-get")
    assert f"Dir::Etc::sourcelist={unpacked}/qemu.apt/sources.list" in update
    assert f"Dir::State::lists={unpacked}/qemu.apt/lists" in update
    assert download.endswith("download qemu-system-x86/bookworm-backports")
    assert ("the installed one takes longer" in done.stderr) is not runs
    assert [path.name for path in unpacked.iterdir()] == ["qemu" if runs else "no-newer-qemu"]
    checkout.run("newer")
    assert len(checkout.calls("apt-get")) == 1, "it is asked where the archive is, and nothing else"


def test_machine_without_debians_archive_keeps_its_qemu(checkout: Checkout) -> None:
    checkout.stand_in(
        "newer", 'usage() { :; }\n. "$(dirname "$0")/lib.sh"\nunpack_newer_qemu', checkout.top / "scripts"
    )
    done = checkout.run("newer")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(checkout.calls("apt-get")) == 1


def test_program_is_one_file_that_runs_anywhere(checkout: Checkout) -> None:
    checkout.link("bulkhead", "pyinfra_lvm", "tasks")
    laptop = checkout.top.parent / "laptop"
    laptop.mkdir()
    for _ in range(2):
        done = checkout.run("program", cwd=laptop)
        assert done.returncode == 0, done.stderr
        assert f"{laptop}/bulkhead: bulkhead " in done.stderr
    assert [path.name for path in laptop.iterdir()] == ["bulkhead"]
    shutil.rmtree(checkout.top)
    (laptop / "Dockerfile").write_text("FROM a\nCOPY . .\n")
    done = subprocess.run(
        [laptop / "bulkhead", "context"], cwd=laptop, env=checkout.environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "What is sent to Docker" in done.stdout
    assert checkout.calls(*INSTALLERS) == []


def test_program_replaces_nothing_but_itself(checkout: Checkout) -> None:
    checkout.link("bulkhead", "pyinfra_lvm", "tasks")
    other = checkout.top / "other"
    other.write_text("mine")
    done = checkout.run("program", "other")
    assert done.returncode == 1
    assert (
        done.stderr == f"scripts/program: {other} is there, and is not bulkhead; it was left alone. Name another file\n"
    )
    assert other.read_text() == "mine"


def test_program_refuses_a_python_that_is_too_old(checkout: Checkout) -> None:
    checkout.stand_in("python3", "exit 1")
    done = checkout.run("program")
    assert done.returncode == 1
    assert done.stderr == "scripts/program: this needs Python 3.10 or newer as python3\n"


# -- help and wrong command lines


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["something", "--help"]], ids=" ".join)
@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_printed_from_anywhere_and_installs_nothing(
    checkout: Checkout, script: str, arguments: Sequence[str]
) -> None:
    checkout.link("lab")
    done = checkout.run(script, *arguments, cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: scripts/{script}")
    assert done.stderr == ""
    assert checkout.calls(*INSTALLERS) == []
    assert not (checkout.top / ".venv").exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_needs_no_python(checkout: Checkout, script: str) -> None:
    checkout.stand_in("python3", "exit 1")
    done = checkout.run(script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: scripts/{script}")


def test_help_of_a_command_of_the_lab_is_its_own(checkout: Checkout) -> None:
    checkout.link("lab")
    assert "--layout" in checkout.run("lab", "up", "--help").stdout


def test_help_names_every_argument_of_the_benchmarks(checkout: Checkout) -> None:
    output = checkout.run("benchmark", "--help").stdout
    sources = "".join(path.read_text() for path in (TOP / "benchmarks").glob("*.py"))
    options = re.findall(r'add_argument\("(--[a-z-]+)"', sources)
    assert options
    assert [option for option in options if option not in output] == []


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("deploy", "name an inventory, for example inventory/prod.py"),
        ("verify", "name an inventory, for example inventory/prod.py"),
        ("benchmark", "name a benchmark: deploy, fleet, check, guard, context, relocation or volume"),
        ("benchmark nonsense", "there is no benchmark nonsense"),
        ("deploy --nonsense", "there is no option --nonsense; arguments for pyinfra come after --"),
        ("deploy one.py two.py", "there are two inventories: one.py and two.py"),
        ("deploy a.py --limit", "--limit needs a host or a group"),
        ("deploy missing.py", "there is no inventory missing.py"),
        (
            "deploy a.py -- --no-wait",
            "--no-wait is refused: with it, pyinfra exits with 0 although operations failed",
        ),
        ("deploy a.py -- --exclude=b", "--exclude is refused: name the hosts with --limit"),
        ("deploy a.py -- --limit=b", "--limit comes before the --"),
        ("deploy a.py --dry -- -y", "-y is refused with --dry: with it, pyinfra shows no plan"),
        ("deploy a.py --dry -- -vy", "-vy is refused with --dry: with it, pyinfra shows no plan"),
        ("verify --nonsense", "there is no option --nonsense"),
        ("verify missing.py", "there is no inventory missing.py"),
        ("verify a.py --limit", "--limit needs a host or a group"),
        ("test --nonsense", "there is no option --nonsense; arguments for pytest come after --"),
        ("test tests/lab", "arguments for pytest come after --: scripts/test -- tests/lab"),
        ("test --again", "--again needs --full"),
        ("incident --nonsense", "there is no option --nonsense"),
        ("venv --nonsense", "there is no option --nonsense"),
        ("lock --nonsense", "there is no option --nonsense"),
        ("mutate --nonsense", "there is no option --nonsense"),
        ("mutate --sample", "--sample needs a value"),
        ("mutate --sample few settings/fields.py", "--sample needs a number of faults"),
        ("mutate tasks/nonsense.py", "tests/mutants.toml does not list tasks/nonsense.py"),
    ],
)
def test_wrong_command_line_is_one_sentence_and_installs_nothing(checkout: Checkout, line: str, output: str) -> None:
    script, *arguments = line.split()
    done = checkout.run(script, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"scripts/{script}: {output} (see --help)\n"
    assert checkout.calls(*INSTALLERS) == []
    assert not (checkout.top / ".venv").exists()


# -- what is installed


def test_packages_are_named_before_they_are_installed(checkout: Checkout) -> None:
    checkout.stand_in("id", "echo 1000")
    checkout.stand_in("sudo", "echo told >&2; exit 1")
    done = checkout.run("test", "--unit")
    assert done.returncode != 0
    first, second = done.stderr.splitlines()[:2]
    assert first == "==> installing Debian packages with sudo: shellcheck git rsync apprise"
    assert second == "told"


def test_installation_waits_for_another_package_manager(checkout: Checkout) -> None:
    checkout.stand_in("id", "echo 0")
    checkout.stand_in("sleep")
    held = (
        "[ -e $LOG.held ] || { touch $LOG.held; echo 'E: Could not get lock /var/lib/apt/lists/lock.' >&2; exit 100; }"
    )
    checkout.stand_in("apt-get", held)
    checkout.run("test", "--unit")
    update, again, install, *_ = checkout.calls("apt-get")
    assert update.endswith(" update")
    assert again.endswith(" update")
    assert install.endswith(" install --no-install-recommends shellcheck git rsync apprise")


def test_tools_of_the_system_are_found_without_their_directories_on_path(checkout: Checkout) -> None:
    checkout.with_venv(python='echo "$PATH"')
    path = checkout.run("lab").stdout.strip()
    assert path.endswith(":/usr/local/sbin:/usr/sbin:/sbin")
    checkout.environment["PATH"] = f"{checkout.bin}:/usr/sbin:/usr/bin:/bin"
    assert checkout.run("lab").stdout.count("/usr/sbin") == 1


def test_lab_finds_them_without_its_script_as_well() -> None:
    assert with_system_directories("/usr/bin:/bin") == "/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
    assert with_system_directories("/usr/sbin:/usr/bin") == "/usr/sbin:/usr/bin:/usr/local/sbin:/sbin"
    line = "import os, lab; print(os.environ['PATH'])"
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", line], cwd=TOP, env=environment, capture_output=True, text=True)
    assert "/usr/sbin" in done.stdout


def test_image_for_the_lab_is_a_file_of_the_callers_directory(checkout: Checkout, tmp_path: Path) -> None:
    checkout.with_venv(python="")
    (tmp_path / "elsewhere").mkdir()
    for arguments in (["up", "--image", "a.qcow2", "name"], ["up", "--image=a.qcow2", "name"]):
        checkout.run("lab", *arguments, cwd=tmp_path / "elsewhere")
        (call,) = checkout.calls("python")
        assert call.replace("=", " ") == f"python -m lab up --image {tmp_path}/elsewhere/a.qcow2 name"
    checkout.run("lab", "ssh", "--", "make", "--image", "a", cwd=tmp_path)
    assert checkout.calls("python") == ["python -m lab ssh -- make --image a"]


# -- deploy

FLEET = 'exit "${CODE:-0}"'


@pytest.fixture
def deploying(checkout: Checkout) -> Checkout:
    """A checkout with an inventory, and a run that does nothing."""
    checkout.with_venv(python=FLEET)
    (checkout.top / "inventory").mkdir()
    (checkout.top / "inventory/prod.py").touch()
    return checkout


def deployed(checkout: Checkout) -> list[str]:
    """The runs."""
    return checkout.calls("python")


def test_deploy_starts_at_once_and_hands_arguments_on(deploying: Checkout) -> None:
    done = deploying.run("deploy", "inventory/prod.py", "--limit", "web", "--limit=gpu", "--", "--data", "a=b c")
    assert done.returncode == 0, done.stderr
    assert deployed(deploying) == [
        "python -m fleet -y --limit web --limit=gpu --data a=b c inventory/prod.py deploy.py"
    ]


def test_dry_deploy_shows_the_plan_and_verdicts_are_text_or_json(deploying: Checkout) -> None:
    deploying.run("deploy", "--dry", "inventory/prod.py")
    assert deployed(deploying) == ["python -m fleet --dry inventory/prod.py deploy.py"]
    deploying.run("deploy", "--json", "--dry", "inventory/prod.py")
    assert deployed(deploying) == ["python -m fleet --json --dry inventory/prod.py deploy.py"]


def test_inventory_is_one_of_the_callers_directory_or_of_the_checkout(deploying: Checkout, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "hosts.py").touch()
    deploying.run("deploy", "hosts.py", cwd=own)
    assert deployed(deploying) == [f"python -m fleet -y {own}/hosts.py deploy.py"]
    deploying.run("deploy", "inventory/prod.py", cwd=own)
    assert deployed(deploying) == ["python -m fleet -y inventory/prod.py deploy.py"]
    deploying.run("deploy", str(own / "hosts.py"))
    assert deployed(deploying) == [f"python -m fleet -y {own}/hosts.py deploy.py"]
    deploying.run("deploy", "one.example.com,two.example.com")
    assert deployed(deploying) == ["python -m fleet -y one.example.com,two.example.com deploy.py"]


def test_first_deploy_of_a_user_has_a_place_for_the_hosts_keys(deploying: Checkout) -> None:
    home = Path(deploying.environment["HOME"])
    home.mkdir(exist_ok=True)
    for _ in range(2):
        assert deploying.run("deploy", "inventory/prod.py").stderr == ""
        assert (home / ".ssh").stat().st_mode & 0o777 == 0o700
    (home / ".ssh").rmdir()
    home.rmdir()
    assert deploying.run("deploy", "inventory/prod.py").returncode == 0, "a user without a home cannot deploy"


def test_exit_code_of_pyinfra_is_that_of_the_deploy(deploying: Checkout) -> None:
    for code in (1, 3):
        deploying.environment["CODE"] = str(code)
        assert deploying.run("deploy", "inventory/prod.py").returncode == code
        assert deploying.run("deploy", "inventory/prod.py", "--dry").returncode == code


def test_interrupted_deploy_fails(deploying: Checkout) -> None:
    # As pyinfra does.
    running = 'trap "exit 0" INT; touch "$LOG.runs"; while :; do sleep 0.05; done'
    deploying.stand_in("python", running, deploying.top / ".venv/bin")
    line = [deploying.top / "scripts/deploy", "inventory/prod.py"]
    with subprocess.Popen(
        line,
        cwd=deploying.top,
        env=deploying.environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        wait_for(Path(f"{deploying.log}.runs"))
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(10) == 130


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_this_machine_is_provisioned_as_root_or_with_sudo(deploying: Checkout) -> None:
    for user, arguments, options in (
        (0, [], "-y"),
        (1000, [], "-y --sudo"),
        (1000, ["--", "--su-user", "root"], "-y --su-user root"),
    ):
        deploying.stand_in("id", f"echo {user}")
        deploying.run("deploy", "@local", *arguments)
        assert deployed(deploying) == [f"python -m fleet {options} @local deploy.py"]


@pytest.mark.parametrize(
    ("hosts", "limits", "output"),
    [
        (
            'docker = ["one.example.com"]',
            ["one*", "two*", "three"],
            "no host of {} matches --limit two*, --limit three.",
        ),
        ("docker = []", [], "there is no host in {}."),
    ],
)
def test_deploy_fails_where_pyinfra_does_nothing_and_exits_with_0(
    deploying: Checkout, python_with_pyinfra: Path, tmp_path: Path, hosts: str, limits: list[str], output: str
) -> None:
    # The real one: what it logs decides.
    deploying.stand_in("python", f'PYTHONPATH={TOP} exec {python_with_pyinfra} "$@"', deploying.top / ".venv/bin")
    (deploying.top / "deploy.py").write_text("raise SystemExit('a host is changed')")
    inventory = tmp_path / "hosts.py"
    inventory.write_text(hosts)
    done = deploying.run("deploy", str(inventory), *(f"--limit={limit}" for limit in limits))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"scripts/deploy: {output.format(inventory)} Nothing was changed"
    assert done.stdout == ""


def test_inventory_that_cannot_be_read_says_why(deploying: Checkout) -> None:
    broken = "echo 'no machine of the lab is up' >&2; exit 1"
    deploying.stand_in("python", broken, deploying.top / ".venv/bin")
    done = deploying.run("deploy", "inventory/prod.py")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "no machine of the lab is up")


@pytest.mark.parametrize("packages", ["python3.11", "python3.13"])
def test_upgrade_of_the_system_to_another_python_makes_the_virtual_environment_anew(
    deploying: Checkout, packages: str
) -> None:
    venv = deploying.top / ".venv"
    deploying.stand_in("python3.13", FLEET)
    (venv / "bin/python").unlink()
    (venv / "bin/python").symlink_to(deploying.bin / "python3.13")
    (venv / "lib" / packages).mkdir(parents=True)
    deploying.stand_in("python3", "case $1 in -m) exit 1 ;; esac")
    done = deploying.run("deploy", "inventory/prod.py")
    made = "installing the Python packages of requirements.lock into .venv" in done.stderr
    assert (made, done.returncode) == ((False, 0) if packages == "python3.13" else (True, 1))


def test_virtual_environment_that_two_commands_need_is_made_once(checkout: Checkout) -> None:
    making = 'case $2 in venv) mkdir -p "$3/bin"; sleep 1; printf "#!/bin/sh\n" >"$3/bin/python"; chmod +x "$3/bin/python" ;; esac'
    checkout.stand_in("python3", making)
    line = [checkout.top / "scripts/venv"]
    both = [subprocess.Popen(line, env=checkout.environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert sum("installing the Python packages" in text for text in errors) == 1
    assert len([call for call in checkout.calls("python3") if " venv " in call]) == 1


# -- a user without an entry in passwd, as in a container of a CI

WITHOUT_NAME = "case $* in -un) echo 4242; exit 1 ;; *) echo 4242 ;; esac"


@pytest.mark.parametrize(
    ("environment", "name", "home"),
    [
        ({}, "uid-4242", "checkout/.home"),
        ({"HOME": "home", "USER": "ann"}, "ann", "home"),
        ({"HOME": "nowhere", "LOGNAME": "ben"}, "ben", "checkout/.home"),
    ],
)
def test_user_without_a_name_gets_what_python_asks_for(
    deploying: Checkout, tmp_path: Path, environment: dict[str, str], name: str, home: str
) -> None:
    (tmp_path / "home").mkdir()
    deploying.stand_in("id", WITHOUT_NAME)
    deploying.stand_in("python", 'echo "$LOGNAME $HOME"', deploying.top / ".venv/bin")
    del deploying.environment["HOME"]
    if "HOME" in environment:
        environment = environment | {"HOME": str(tmp_path / environment["HOME"])}
    deploying.environment |= environment
    done = deploying.run("deploy", "inventory/prod.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{name} {tmp_path / home}\n", "")
    assert (tmp_path / home / ".ssh").is_dir()


def test_user_without_a_name_can_verify(checkout: Checkout) -> None:
    checkout.with_venv(python="")
    checkout.stand_in("id", WITHOUT_NAME)
    done = checkout.run("verify", "web-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--inventory=web-1" in checkout.calls("python")[0]


# -- verify


def test_verification_takes_the_callers_files_and_this_machine(checkout: Checkout, tmp_path: Path) -> None:
    checkout.with_venv(python="")
    (tmp_path / "hosts.py").touch()
    options = ("--limit", "web", "--limit=db", "--junit=results.xml", "--containers", "--disruptive")
    checkout.run("verify", "hosts.py", *options, cwd=tmp_path)
    (call,) = checkout.calls("python")
    for words in (
        f"--inventory={tmp_path}/hosts.py ",
        "--limit=web --limit=db",
        f"--junit-xml={tmp_path}/results.xml",
        "--containers",
        "--disruptive",
    ):
        assert words in call
    for user, sudo in ((0, False), (1000, True)):
        checkout.stand_in("id", f"echo {user}")
        checkout.run("verify", "@local")
        (call,) = checkout.calls("python")
        assert "--inventory=@local" in call
        assert ("--sudo" in call) == sudo


# -- test


@pytest.fixture
def testing(checkout: Checkout) -> Checkout:
    """A checkout with a pytest that does nothing."""
    checkout.with_venv(python="exit ${CODE:-0}")
    (checkout.top / "tests/lab").mkdir()
    (checkout.top / "tests/lab/test_guard.py").touch()
    return checkout


def test_files_take_the_place_of_the_whole_lab_ring(testing: Checkout) -> None:
    for arguments, cwd, expected in (
        ([], "", "tests/lab"),
        (["-k", "decoy"], "", "-k decoy tests/lab"),
        (["-k", "lab"], "", "-k lab tests/lab"),
        (["tests/lab/test_guard.py::test_x[a]"], "", "tests/lab/test_guard.py::test_x[a]"),
        (["test_guard.py", "-x"], "tests/lab", f"{testing.top}/tests/lab/test_guard.py -x"),
    ):
        done = testing.run("test", "--lab", "--", *arguments, cwd=testing.top / cwd)
        assert done.returncode == 0, done.stderr
        (call,) = testing.calls("python")
        assert call.partition("--durations=15 ")[2] == expected


def test_full_run_says_at_its_end_what_has_passed(testing: Checkout) -> None:
    testing.environment["CODE"] = "1"
    assert testing.run("test", "--lab", "--full", "--again").returncode == 1
    full, status = testing.calls("python")
    assert "--full --again" in full
    assert status == "python -m tests.lab.ledger status"


def test_run_that_is_killed_ends_the_tests_and_says_what_has_passed(testing: Checkout) -> None:
    body = 'case $* in *pytest*) trap "exit 2" TERM; touch "$LOG.runs"; while :; do sleep 0.05; done ;; esac'
    testing.stand_in("python", body, testing.top / ".venv/bin")
    line = [testing.top / "scripts/test", "--lab", "--full"]
    with subprocess.Popen(line, cwd=testing.top, env=testing.environment, stdout=subprocess.PIPE, text=True) as process:
        wait_for(Path(f"{testing.log}.runs"))
        process.terminate()
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "lab: stopped in" in output
    assert testing.calls("python")[-1] == "python -m tests.lab.ledger status"


# The parts of the unit tests. One that ends by itself prints two lines.
PARTS = """
for last; do :; done
case $* in
    -c*) exit 1 ;;
    *pytest*)
        trap 'echo ended >>"$LOG"; exit 2' TERM
        case $* in *tests/lab*) echo "environment $(env | grep ^PYT | xargs)" >>"$LOG" ;; esac
        [ -z "${HANGS:-}" ] || { echo hangs >>"$LOG"; while :; do sleep 0.05; done; }
        echo "about $last"; echo "=== 3 passed ==="; [ "$last" != "${FAILS:-}" ] ;;
esac
"""


@pytest.fixture
def in_parts(checkout: Checkout) -> Checkout:
    """A checkout with Python 3.10 and a newer one, and a lint that passes."""
    checkout.with_venv(python=PARTS, ruff="", mypy="", **{"lint-imports": ""})
    for name in ("shellcheck", "python3.10"):
        checkout.stand_in(name)
    checkout.stand_in("python", f'echo "oldest $*" >>"$LOG"\n{PARTS}', checkout.top / ".venv-3.10/bin")
    shutil.copy(checkout.top / "requirements.lock", checkout.top / ".venv-3.10")
    return checkout


def holds(words: list[str], path: str) -> bool:
    """Whether pytest, called with these words, runs the tests of a file."""
    under = [word for word in words if path.startswith(f"{word}/")]
    return bool(under) and not any(words[words.index(word) - 1] == "--ignore" for word in under)


def test_part_of_the_unit_tests_that_passes_is_one_line(in_parts: Checkout) -> None:
    done = in_parts.run("test", "--unit")
    assert done.returncode == 0, done.stderr
    for part in ("tasks", "support", "bulkhead", "guard_move_prune", "others"):
        assert f"==> {part}: 3 passed\n" in done.stderr
    assert "about" not in done.stdout
    oldest = [call.split() for call in in_parts.calls("oldest")]  # each is a call of "python" too
    parts = [call.split() for call in in_parts.calls("python") if "pytest" in call]
    for file in (TOP / "tests/unit").rglob("test_*.py"):
        holders = [words for words in parts if holds(words, str(file.relative_to(TOP)))]
        assert len(holders) == 1, file
        assert (["oldest", *holders[0][1:]] in oldest) == file.is_relative_to(TOP / "tests/unit/bulkhead")
    assert in_parts.calls("apt-get", "sudo") == []


def test_part_of_the_unit_tests_that_fails_prints_everything_and_the_others_still_run(in_parts: Checkout) -> None:
    in_parts.environment["FAILS"] = "tests/unit/tasks"
    done = in_parts.run("test", "--unit")
    assert done.returncode == 1
    assert "about tests/unit/tasks\n=== 3 passed ===\n" in done.stdout
    assert done.stdout.count("about") == 1
    assert "==> tasks: FAILED\n" in done.stderr
    assert done.stderr.count("3 passed") == 4


def test_lab_ring_after_the_unit_ring_has_the_environment_that_it_has_alone(in_parts: Checkout) -> None:
    in_parts.stand_in("git")
    environments = []
    for arguments in ([], ["--lab"]):
        done = in_parts.run("test", *arguments)
        assert done.returncode == 0, done.stderr
        environments += in_parts.calls("environment")
    assert environments == ["environment PYTHONDONTWRITEBYTECODE=1"] * 2


def test_without_a_python_3_10_the_host_programs_tests_run_under_the_newer_one(in_parts: Checkout) -> None:
    in_parts.stand_in("python3.10", "exit 127")
    done = in_parts.run("test", "--unit")
    assert done.returncode == 0
    assert "==> no Python 3.10 on this machine: the host program is tested under " in done.stderr
    assert done.stderr.count("3 passed") == 5
    assert in_parts.calls("oldest") == []


def test_unit_tests_that_are_killed_end_in_every_part(in_parts: Checkout) -> None:
    in_parts.environment["HANGS"] = "1"
    line = [in_parts.top / "scripts/test", "--unit"]
    with subprocess.Popen(
        line, cwd=in_parts.top, env=in_parts.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 20
        while len(in_parts.calls("hangs")) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.terminate()
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "unit: stopped in" in output
    assert in_parts.calls("ended") == ["ended"] * 5
