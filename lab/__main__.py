"""The command line of the lab: `scripts/lab`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias

from lab import LabError, deploy, image, qemu
from lab.deploy import INVENTORY, TOP
from lab.machine import Machine, shell_join
from lab.progress import step
from lab.repository import LabRepository

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

DEFAULT = "demo"
_NAME = f"the machine's name (default: {DEFAULT})"
SHOW_DISKS = (
    "lsblk -o NAME,SIZE,TYPE,MOUNTPOINTS; echo; df -h --output=source,size,used,avail,target -x tmpfs -x devtmpfs"
)


def main() -> int:
    """Run a command of the lab. A known error prints one line."""
    own, dashes, further = sys.argv[1:], False, []
    if "--" in own:
        at = own.index("--")
        own, dashes, further = own[:at], True, own[at + 1 :]
    parser = _parser()
    arguments = parser.parse_args(own)
    if dashes and not arguments.takes_further:
        parser.error("this command takes no arguments after --")
    arguments.further = further
    try:
        return int(arguments.command(arguments) or 0)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"lab: {error.cmd[0]} failed with {error.returncode}\n{error.stderr or ''}".rstrip(), file=sys.stderr)
        return 1
    except subprocess.TimeoutExpired as error:
        print(f"lab: {error.cmd[0]} did not end within {error.timeout:.0f} s", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/lab",
        description="Throwaway virtual machines for docker-bulkhead. Without a command, make one, provision it, verify it, "
        "and show its disks before and after.",
    )
    parser.set_defaults(command=demo, name=DEFAULT, takes_further=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    # Only what is given is among the arguments: _DEFAULTS has the rest.
    up = _add(commands, "up", "make and boot a machine, or boot one that is down", argument_default=argparse.SUPPRESS)
    up.add_argument("name", nargs="?", default=DEFAULT, metavar="NAME", help=_NAME)
    up.add_argument("--suite", choices=image.SUITES, help=f"{_listed(image.SUITES)} (default: {_DEFAULTS['suite']})")
    up.add_argument(
        "--layout",
        choices=image.LAYOUTS,
        help=f"{_listed({name: layout.summary for name, layout in image.LAYOUTS.items()})} (default: {_DEFAULTS['layout']})",
    )
    up.add_argument(
        "--docker", choices=image.DOCKER, help=f"whether the image has a Docker engine (default: {_DEFAULTS['docker']})"
    )
    up.add_argument(
        "--engine",
        choices=("distro", "docker-ce"),
        help="the engine that the deploy installs; docker-ce comes from the lab's own signed repository, not from Docker's "
        f"(default: {_DEFAULTS['engine']})",
    )
    up.add_argument(
        "--image", type=Path, metavar="FILE", help="boot this cloud image (qcow2 or raw) instead, of Ubuntu or your own"
    )
    up.add_argument(
        "--accel", choices=("kvm", "tcg"), help="use KVM (kvm) or emulation (tcg); by default a probe chooses"
    )
    up.add_argument("--memory", help=f"memory of a cloud image's machine (default: {_DEFAULTS['memory']})")
    up.add_argument("--cpus", type=int, help=f"processors of a cloud image's machine (default: {_DEFAULTS['cpus']})")
    up.set_defaults(command=_up)

    for name, command, usage, text in (
        (
            "deploy",
            _deploy,
            "[-- PYINFRA_OPTION ...]",
            "provision a machine: deploy -- --dry, deploy -- --data NAME=VALUE",
        ),
        ("verify", _verify, "[-- VERIFY_OPTION ...]", "verify a machine: verify -- --disruptive"),
        ("ssh", _ssh, "[-- COMMAND ...]", "log in, or run a command"),
    ):
        sub = _add(commands, name, text, usage=f"scripts/lab {name} [-h] [NAME] {usage}")
        sub.add_argument("name", nargs="?", default=DEFAULT, metavar="NAME", help=_NAME)
        sub.set_defaults(command=command, takes_further=True)

    _add(commands, "status", "list the machines").set_defaults(command=_status)
    for name, text in (
        ("snapshot", "save the state of a machine, with its memory"),
        ("restore", "restore a saved state"),
    ):
        sub = _add(commands, name, text)
        sub.add_argument("tag", metavar="TAG", help="the name of the saved state")
        sub.add_argument("name", nargs="?", default=DEFAULT, metavar="NAME", help=_NAME)
        sub.set_defaults(command=_snapshot if name == "snapshot" else _restore)
    cut = _add(commands, "cut", "cut the power of a machine; `up` boots it again")
    cut.add_argument("name", nargs="?", default=DEFAULT, metavar="NAME", help=_NAME)
    cut.set_defaults(command=lambda arguments: Machine.get(arguments.name).cut())
    down = _add(commands, "down", "stop a machine and remove its disks")
    down.add_argument("name", nargs="?", default=DEFAULT, metavar="NAME", help=_NAME)
    down.add_argument("--all", action="store_true", help="all machines, and the lab's package repository")
    down.set_defaults(command=_down)
    return parser


# Of `up`.
_DEFAULTS = {
    "suite": "bookworm",
    "layout": "shared-vg",
    "docker": "absent",
    "engine": "distro",
    "image": None,
    "accel": None,
    "memory": "2G",
    "cpus": 2,
}


def _add(commands: _Commands, name: str, text: str, **options: Any) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", **options)


def _listed(choices: dict[str, str]) -> str:
    return "; ".join(f"{name}: {text}" for name, text in choices.items())


def demo(arguments: argparse.Namespace) -> int:
    """Make a throwaway machine, provision it, verify it, and show its disks."""
    started = time.monotonic()
    if any(machine.name == DEFAULT for machine in Machine.all()):
        raise LabError(
            f"the machine {DEFAULT!r} exists already: `scripts/lab down` removes it, `scripts/lab deploy` provisions it again"
        )
    _up(arguments)
    machine = Machine.get(DEFAULT)
    before = machine.out(SHOW_DISKS)
    with step("pyinfra inventory/lab.py deploy.py"):
        deployed = _pyinfra(machine, ["-y"])
    if deployed:
        return deployed
    with step("scripts/verify inventory/lab.py"):
        verified = _run_verify(machine, ["--containers"])
    _side_by_side(before, machine.out(SHOW_DISKS))
    print(
        f"\n{machine.name}: {'a verified Docker host' if verified == 0 else 'NOT verified'}, in "
        f"{time.monotonic() - started:.0f} s\n  look around:  scripts/lab ssh -- docker info\n  run again:    scripts/lab deploy"
        "\n  remove it:    scripts/lab down"
    )
    return verified


def _side_by_side(before: str, after: str) -> None:
    left, right = ["BEFORE", "", *before.splitlines()], ["AFTER", "", *after.splitlines()]
    width = max(map(len, left)) + 4
    print()
    for one, other in zip_longest(left, right, fillvalue=""):
        print(f"{one:<{width}}{other}".rstrip())


def _up(arguments: argparse.Namespace) -> None:
    given = {name: value for name, value in vars(arguments).items() if name in _DEFAULTS}
    known = {machine.name: machine for machine in Machine.all()}
    if machine := known.get(arguments.name):
        if given:
            raise LabError(
                f"{machine.name} exists already, and {', '.join(f'--{name}' for name in given)} can only be chosen for a new "
                f"machine: `scripts/lab down {machine.name}` removes this one"
            )
        with step(f"booting {machine.name}"):
            machine.boot()
        return
    chosen = argparse.Namespace(**_DEFAULTS | given)
    settings: dict[str, object] = {}
    if chosen.engine == "docker-ce":
        repository = LabRepository.running()
        settings = {
            "engine_source": "docker-ce",
            "docker_repository": repository.url_of_guests,
            "docker_repository_fingerprint": repository.fingerprint,
        }
    what = str(chosen.image or f"{image.SUITES[chosen.suite]}, {chosen.layout}, Docker {chosen.docker}")
    with step(f"starting {arguments.name}: {what}"):
        if chosen.image:
            Machine.from_cloud_image(
                arguments.name,
                chosen.image,
                settings=settings,
                accelerator=chosen.accel,
                memory=chosen.memory,
                cpus=chosen.cpus,
            )
        else:
            Machine.create(
                arguments.name,
                suite=chosen.suite,
                layout=chosen.layout,
                docker=chosen.docker,
                settings=settings,
                accelerator=chosen.accel,
            )


def _pyinfra(machine: Machine, options: list[str]) -> int:
    return subprocess.run(deploy.command(machine.name, options=(*options,)), cwd=TOP).returncode


def _run_verify(machine: Machine, options: list[str]) -> int:
    return subprocess.run(["scripts/verify", INVENTORY, "--limit", machine.name, *options], cwd=TOP).returncode


def _running(name: str) -> Machine:
    machine = Machine.get(name)
    if not machine.running:
        raise LabError(f"{name} is down: `scripts/lab up {name}` boots it")
    return machine


def _deploy(arguments: argparse.Namespace) -> int:
    further = arguments.further
    return _pyinfra(_running(arguments.name), further if "--dry" in further else ["-y", *further])


def _verify(arguments: argparse.Namespace) -> int:
    return _run_verify(_running(arguments.name), arguments.further)


def _ssh(arguments: argparse.Namespace) -> None:
    machine = _running(arguments.name)
    words = arguments.further
    line = machine.ssh_command() if words else machine.ssh_command("-t")
    os.execvp(line[0], [*line, *([shell_join(words)] if words else [])])


def _status(_: argparse.Namespace) -> None:
    machines = Machine.all()
    if not machines:
        print("there are no machines: `scripts/lab up` makes one")
        return
    print(f"accelerator that works here: {qemu.working_accelerator()}")
    for machine in machines:
        recipe = machine.recipe
        what = f"{recipe.suite} {recipe.layout} docker {recipe.docker}" if recipe else "cloud image"
        state = f"up, ssh on 127.0.0.1:{machine.ssh_port}, pid {machine.pid}" if machine.running else "down"
        print(f"{machine.name:<12} {what:<40} {state}")


def _snapshot(arguments: argparse.Namespace) -> None:
    _running(arguments.name).snapshot(arguments.tag)


def _restore(arguments: argparse.Namespace) -> None:
    Machine.get(arguments.name).restore(arguments.tag)


def _down(arguments: argparse.Namespace) -> None:
    if arguments.all:
        for machine in Machine.all():
            machine.destroy()
        LabRepository.stop_running()
    else:
        Machine.get(arguments.name).destroy()


if __name__ == "__main__":
    sys.exit(main())
