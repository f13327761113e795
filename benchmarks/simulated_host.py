"""What a host answers that is as it should be: the text that the project's facts read, for hosts that are simulated.

The system, its Docker and its disks are those of the incident's layout among the unit tests' hosts, with Docker's volume added.
What the deploy writes, its own operations say: deploy.py runs once on the host of the unit tests.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Any

from pyinfra.facts.files import FileContents

from pyinfra_lvm.collection import Question
from pyinfra_lvm.facts import StorageLayout, parse_storage, split_sections
from pyinfra_lvm.fstab import FstabEntry, format_entry
from settings.model import Settings
from tasks.daemon import DaemonJson
from tasks.engine import EngineInstallation
from tasks.preflight.facts import HostFacts, parse_host
from tasks.program import InstalledProgram, digest
from tasks.questions import of_capabilities
from tasks.support.archive import archive
from tasks.support.daemon_keys import text
from tasks.support.files import FileStates
from tasks.support.package_names import ENGINE
from tasks.support.packages import PackageStates
from tasks.support.paths import DAEMON_JSON, DAEMON_JSON_APPLIED, STORES
from tasks.support.run_lock import Holder, RunLockHolder
from tasks.support.units import SystemdFiles
from tasks.volume import MARKERS, VolumeContents
from tasks.watch import JournalLimits
from tests.unit.tasks.deployment import Deployment, deployed
from tests.unit.tasks.operations import OperationHost
from tests.unit.tasks.real_hosts import LAYOUTS

_GIB = 2**30
_SIZE = 60 * _GIB
_NAME = "ubuntu--vg-docker--lv"
_VOLUME = "/srv/docker-volume"
_STARTED = "Mon 2026-11-23 21:38:13 UTC"
_WRITTEN = 1_700_000_000  # before that
_PACKAGES = ("lvm2", "e2fsprogs", "python3", "cron", "gpg", "ca-certificates", *ENGINE["distro"])
_INFO = {
    "Driver": "overlay2",
    "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]],
    "DockerRootDir": STORES["docker"],
    **{f"Key{number}": "x" * 40 for number in range(80)},  # as long as Docker's own answer
}
_UNITS = """
=ExecStart={ path=/usr/sbin/dockerd ; argv[]=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock ; }
=Id=docker.service
=LoadState=loaded
=
=Id=docker.socket
=LoadState=loaded
=
=ExecStart={ path=/usr/bin/containerd ; argv[]=/usr/bin/containerd ; }
=Id=containerd.service
=LoadState=loaded
""".strip().splitlines()


def answers(settings: Settings) -> list[tuple[Question, list[str]]]:
    """Return every question of a run, and the lines that a host answers which is as these settings want it."""
    layout = split_sections((LAYOUTS / "incident-ubuntu-24.04.txt").read_text().splitlines(), "##")
    host = _host(layout["HOST## os"])
    bare = parse_storage(
        [line for name, lines in layout.items() if name.startswith("STOR") for line in (f"##{name}", *lines)]
    )
    state = parse_host(host)
    facts: dict[Any, Any] = {HostFacts: state, RunLockHolder: Holder(), JournalLimits: []}
    run = deployed("deploy.py", settings, OperationHost({**facts, StorageLayout: bare}))
    storage = _storage(
        layout, [_fstab(arguments) for name, arguments in run.arguments if name.endswith("operations.mount")]
    )
    # The configuration depends on what the volume has become.
    run = deployed("deploy.py", settings, OperationHost({**facts, StorageLayout: parse_storage(storage)}))
    texts: dict[Any, list[str]] = {
        RunLockHolder: ["free"],
        HostFacts: host,
        StorageLayout: storage,
        PackageStates: [f"{name} installed" for name in _PACKAGES],
        EngineInstallation: [*(f"package {name} installed 27.5.1" for name in _PACKAGES), "running"],
        VolumeContents: [*STORES, *MARKERS],
        InstalledProgram: [f"{digest(archive())} True"],
        **_written(run),
    }
    asked = [Question(fact, {}) for fact in (RunLockHolder, HostFacts, StorageLayout)] + of_capabilities(settings)
    return [(question, texts.get(question.fact, [])) for question in asked]


def _fstab(arguments: dict[str, Any]) -> FstabEntry:
    return FstabEntry.of(*(arguments[key] for key in ("device", "path", "fstype", "options")))


def _host(os_release: Sequence[str]) -> list[str]:
    """Return the fact about the host: Docker is installed and runs."""
    titles = re.findall(r"^section ([\w-]+)", HostFacts().command().replace("; section", "\nsection"), re.M)
    known = {
        "system": ["0", "amd64", "systemd"],
        "os": os_release,
        "packages": [f"{name} installed 27.5.1" for name in _PACKAGES],
        "dockerd": ["/usr/sbin/dockerd"],
        "units": _UNITS,
        "info": [json.dumps(_INFO)],
    }
    absent = ("daemon-json-applied", "daemon-json-obstacle", "docker-hangs", "containers", "dangling-images", "journal")
    return [
        line
        for title in dict.fromkeys(titles)
        if title not in absent
        for line in (f"##HOST## {title}", *known.get(title, []))
    ]


def _storage(layout: dict[str, list[str]], fstab: list[FstabEntry]) -> list[str]:
    """Return the fact about storage: the layout with Docker's volume, mounted."""
    sections = {name.removeprefix("STORAGE## "): lines for name, lines in layout.items() if name.startswith("STORAGE")}
    disks = json.loads("\n".join(sections["lsblk"]))
    root = disks["blockdevices"][0]["children"][2]["children"][0]
    volume = {**root, "name": f"/dev/mapper/{_NAME}", "kname": "/dev/dm-1", "size": _SIZE, "maj:min": "253:1"}
    volume |= {"fssize": str(_SIZE), "fsavail": str(_SIZE // 2), "mountpoints": [_VOLUME, *STORES.values()]}
    disks["blockdevices"][0]["children"][2]["children"].append(volume)
    mounts = json.loads("\n".join(sections["findmnt"]))
    for path, directory in ((_VOLUME, ""), *((path, name) for name, path in STORES.items())):
        source = f"/dev/mapper/{_NAME}" + (f"[/{directory}]" if directory else "")
        mount = {"target": path, "source": source, "fsroot": f"/{directory}", "fstype": "ext4", "options": "rw"}
        mounts["filesystems"].append({**mount, "propagation": "private", "maj:min": "253:1"})
    reports = {name: json.loads("\n".join(sections[name]))["report"][0] for name in ("pvs", "vgs", "lvs")}
    for name, key, free in (("pvs", "pv", "pv_free"), ("vgs", "vg", "vg_free")):
        reports[name][key][0][free] = str(int(reports[name][key][0][free]) - _SIZE)
    made = {"lv_name": "docker-lv", "lv_size": str(_SIZE), "lv_tags": "docker-bulkhead"}
    reports["lvs"]["lv"].append({**reports["lvs"]["lv"][0], **made})
    lines = "\n".join(layout["HOST## fstab"] + [format_entry(entry) for entry in fstab]) + "\n"
    encoded = base64.encodebytes(lines.encode()).decode().splitlines()
    sections |= {
        "lsblk": json.dumps(disks, indent=3).splitlines(),
        "links": [*sections["links"], f"/dev/mapper/{_NAME} ../dm-1", "/dev/ubuntu-vg/docker-lv ../dm-1"],
        "signatures": [*sections["signatures"], "dm-1 ext4"],
        "device /dev/dm-1": [f"ext-blocks {_SIZE // 4096}", "ext-block-size 4096", "ext-mounts 1"],
        "findmnt": json.dumps(mounts, indent=3).splitlines(),
        "fstab": encoded,
        "directories": [f"directory empty ----i---------e------- {path}" for path in (_VOLUME, *STORES.values())],
        **{name: json.dumps({"report": [report]}, indent=3).splitlines() for name, report in reports.items()},
    }
    return [line for name, lines in sections.items() for line in (f"##STORAGE## {name}", *lines)]


def _written(run: Deployment) -> dict[Any, list[str]]:
    """Return the facts about what the operations of a run write."""
    units: dict[str, str] = {}
    files: dict[str, str] = {}
    found: dict[Any, list[str]] = {}
    for name, arguments in run.arguments:
        if name.endswith("units.unit_files"):
            units |= arguments["contents"]
        elif name.endswith("files.files"):
            files |= {path: file.state for path, file in arguments["wanted"].items() if file}
        elif name.endswith("program.program"):
            found[FileContents] = arguments["configuration"].splitlines()
        elif name.endswith("daemon.daemon_json"):
            content = base64.b64encode(text(arguments["ours"]).encode()).decode()
            found[DaemonJson] = [f"{path} {content}" for path in (DAEMON_JSON, DAEMON_JSON_APPLIED)] + ["read"]
    found[FileStates] = [
        f"started {_WRITTEN + 1}",
        *(f"file {state.split()[0]} {_WRITTEN} {path}" for path, state in files.items()),
        *(f"{state.split()[1]} {path}" for path, state in files.items()),
    ]
    names = sorted({path.removesuffix(".d/docker-bulkhead.conf").rpartition("/")[2] for path in units})
    shown = [
        f"Id={name}\nNeedDaemonReload=no\nActiveState=active\nUnitFileState=enabled\nExecMainStartTimestamp={_STARTED}\n"
        for name in names
    ]
    found[SystemdFiles] = [
        *"\n".join(shown).splitlines(),
        *(f"file {_WRITTEN} {path}" for path in units),
        *(
            line
            for path, content in units.items()
            for line in (f"in {path}", *(f"={one}" for one in content.splitlines()))
        ),
    ]
    return found
