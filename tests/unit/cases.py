"""What the host program and the deploy each decide for themselves: the cases that both must decide alike."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from pathlib import Path

from .fake_proc import FakeProc

_SLICE = "/user.slice/user-1000.slice"


@dataclass(frozen=True)
class LoginCase:
    """Whether a process belongs to our own login.

    Args:
        processes: PID → parent, name, control group.
        own: the process whose login it is.
        other: the process in question.
    """

    name: str
    processes: dict[int, tuple[int, str, str]]
    own: int
    other: int
    is_own: bool

    def fill(self, proc: FakeProc) -> None:
        for pid, (parent, name, cgroup) in self.processes.items():
            proc.add(pid, name, parent=parent, cgroup=cgroup)
        proc.become(self.own)

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


# Two connections of ssh without pam_systemd: the control groups tell nothing.
_SSHD = "/system.slice/ssh.service"
_CONNECTIONS = {
    10: (1, "sshd", _SSHD),
    20: (10, "sshd", _SSHD),
    21: (20, "sshd-session", _SSHD),
    22: (21, "bash", _SSHD),
    23: (22, "python3", _SSHD),
    24: (22, "vim", _SSHD),
    30: (10, "sshd", _SSHD),
    31: (30, "bash", _SSHD),
    40: (1, "cron", "/system.slice/cron.service"),
}

# A session of systemd's, with the user's own systemd, beside the sessions of the same and of another user.
_SESSIONS = {
    10: (1, "sshd", _SSHD),
    20: (10, "sshd", f"{_SLICE}/session-3.scope"),
    21: (20, "bash", f"{_SLICE}/session-3.scope"),
    22: (21, "python3", f"{_SLICE}/session-3.scope"),
    23: (1, "tmux: server", f"{_SLICE}/session-3.scope"),
    30: (1, "systemd", f"{_SLICE}/user@1000.service/init.scope"),
    31: (30, "dbus-daemon", f"{_SLICE}/user@1000.service/app.slice/dbus.service"),
    40: (1, "screen", f"{_SLICE}/session-4.scope"),
    50: (1, "systemd", "/user.slice/user-1001.slice/user@1001.service/init.scope"),
    60: (1, "cron", "/system.slice/cron.service"),
}

# The console: there is no sshd.
_CONSOLE = {
    10: (1, "login", "/system.slice/getty.service"),
    11: (10, "bash", "/system.slice/getty.service"),
    12: (11, "python3", "/system.slice/getty.service"),
    20: (1, "sleep", "/system.slice/getty.service"),
}

LOGINS = [
    LoginCase("the process itself", _CONNECTIONS, 23, 23, True),
    LoginCase("its shell", _CONNECTIONS, 23, 22, True),
    LoginCase("its sibling", _CONNECTIONS, 23, 24, True),
    LoginCase("its sshd", _CONNECTIONS, 23, 20, True),
    LoginCase("the sshd that listens", _CONNECTIONS, 23, 10, True),
    LoginCase("the sshd of another connection", _CONNECTIONS, 23, 30, False),
    LoginCase("the shell of another connection", _CONNECTIONS, 23, 31, False),
    LoginCase("a daemon", _CONNECTIONS, 23, 40, False),
    LoginCase("a process that has ended", _CONNECTIONS, 23, 99, False),
    LoginCase("an orphan of the session", _SESSIONS, 22, 23, True),
    LoginCase("the user's own systemd", _SESSIONS, 22, 30, True),
    LoginCase("a service of the user's own systemd", _SESSIONS, 22, 31, True),
    LoginCase("another session of the user", _SESSIONS, 22, 40, False),
    LoginCase("the systemd of another user", _SESSIONS, 22, 50, False),
    LoginCase("a daemon beside a session", _SESSIONS, 22, 60, False),
    LoginCase("the session's process from a daemon", _SESSIONS, 60, 23, False),
    LoginCase("the console's login", _CONSOLE, 12, 10, True),
    LoginCase("an orphan beside the console", _CONSOLE, 12, 20, False),
]


@dataclass(frozen=True)
class BoundCase:
    """Where a directory, or a part of it, is mounted in another place too.

    Args:
        host: mounts in the host's mount namespace beside the root filesystem's.
        container: mounts in another mount namespace, of process 70.
        bound: a process of the namespace, and the mount point.
    """

    name: str
    host: tuple[str, ...] = ()
    container: tuple[str, ...] = ()
    bound: tuple[tuple[int, str], ...] = ()
    directory: str = "/home"
    root: tuple[str, ...] = field(default=("22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw",))

    def fill(self, proc: FakeProc) -> None:
        mounts = (*self.root, *self.host)
        (proc.path / "1" / "mountinfo").write_text("".join(f"{line}\n" for line in mounts))
        proc.add(50, "python3", mounts=mounts)
        proc.become(50)
        if self.container:
            proc.add(70, "nginx", namespace="container", mounts=self.container)
            proc.add(71, "worker", parent=70, namespace="container", mounts=self.container)

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


BOUND = [
    BoundCase("nothing"),
    BoundCase("nothing but a root filesystem of its own", root=("22 1 254:1 / / rw - ext4 /dev/root rw",)),
    BoundCase("a part", ("23 22 254:1 /home/me/www /srv/www rw - ext4 /dev/root rw",), bound=((1, "/srv/www"),)),
    BoundCase("all of it", ("23 22 254:1 /home /srv/home rw - ext4 /dev/root rw",), bound=((1, "/srv/home"),)),
    BoundCase("read-only", ("23 22 254:1 /home /srv/home ro - ext4 /dev/root rw",), bound=((1, "/srv/home"),)),
    BoundCase("another filesystem", ("23 22 254:2 /home/me/www /srv/www rw - ext4 /dev/other rw",)),
    BoundCase("a directory beside it", ("23 22 254:1 /home2 /srv/home rw - ext4 /dev/root rw",)),
    BoundCase("in its own place", ("23 22 254:1 /home /home rw - ext4 /dev/root rw",)),
    BoundCase("within it", ("23 22 254:1 /home/me /home/you rw - ext4 /dev/root rw",)),
    BoundCase("above it", ("23 22 254:1 / /host rw - ext4 /dev/root rw",), bound=((1, "/host"),)),
    BoundCase("above it, within it", ("23 22 254:1 / /home/host rw - ext4 /dev/root rw",), bound=((1, "/home/host"),)),
    BoundCase("above it, read-only", ("23 22 254:1 / /host ro - ext4 /dev/root rw",)),
    BoundCase("above it, following", ("23 22 254:1 / /host rw master:1 - ext4 /dev/root rw",)),
    BoundCase("above it, shared", ("23 22 254:1 / /host rw shared:7 - ext4 /dev/root rw",)),
    BoundCase(
        "on a subvolume",
        ("24 22 254:3 /@var/lib/docker/volumes/v/_data /srv/www rw - btrfs /dev/x rw",),
        bound=((1, "/srv/www"),),
        directory="/var/lib/docker",
        root=(
            "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw",
            "23 22 254:3 /@var /var rw - btrfs /dev/x rw",
        ),
    ),
    BoundCase(
        "below a bind mount",
        ("24 22 254:1 /srv/data/home/me /srv/www rw - ext4 /dev/root rw",),
        bound=((1, "/srv/www"),),
        directory="/data/home",
        root=(
            "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw",
            "23 22 254:1 /srv/data /data rw shared:1 - ext4 /dev/root rw",
        ),
    ),
    BoundCase(
        "in a container",
        container=(
            "60 59 0:40 / / rw - overlay overlay rw",
            "61 60 254:1 /home/me/www /var/www rw - ext4 /dev/root rw",
        ),
        bound=((70, "/var/www"),),
    ),
    BoundCase(
        "in a container, in its own place",
        container=("60 59 0:40 / / rw - overlay overlay rw", "61 60 254:1 /home /home rw - ext4 /dev/root rw"),
    ),
    BoundCase(
        "the root filesystem in a container",
        container=("60 59 254:1 / / rw - ext4 /dev/root rw",),
        bound=((70, "/"),),
    ),
    BoundCase(
        "the root filesystem in a namespace of systemd's",
        container=("60 59 254:1 / / rw master:1 - ext4 /dev/root rw",),
    ),
    BoundCase(
        "the private root filesystem on the host and in a container",
        container=("60 59 254:1 / / rw - ext4 /dev/root rw",),
        bound=((70, "/"),),
        root=("22 1 254:1 / / rw - ext4 /dev/root rw",),
    ),
    BoundCase(
        "on the host and in a container",
        ("23 22 254:1 /home /srv/home rw - ext4 /dev/root rw",),
        ("60 59 0:40 / / rw - overlay overlay rw", "61 60 254:1 /home/me /data ro - ext4 /dev/root rw"),
        ((1, "/srv/home"), (70, "/data")),
    ),
]


@dataclass(frozen=True)
class DaemonJsonCase:
    """Whether dockerd can read a daemon.json, and the data root that the file names.

    Args:
        root: empty for the default; None: dockerd does not start with this file.
    """

    name: str
    content: bytes
    root: str | None = ""

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


_ROOT = '{"data-root": "/größer", "debug": true}'

DAEMON_JSONS = [
    DaemonJsonCase("root", _ROOT.encode(), "/größer"),
    DaemonJsonCase("its old name", b'{"graph": "/old"}', "/old"),
    DaemonJsonCase("UTF-8 mark", codecs.BOM_UTF8 + _ROOT.encode(), "/größer"),
    DaemonJsonCase("UTF-16 LE", codecs.BOM_UTF16_LE + _ROOT.encode("utf-16-le"), "/größer"),
    DaemonJsonCase("UTF-16 BE", codecs.BOM_UTF16_BE + _ROOT.encode("utf-16-be"), "/größer"),
    DaemonJsonCase("mark and blanks", codecs.BOM_UTF8 + f"\r\n{_ROOT}\r\n".encode(), "/größer"),
    DaemonJsonCase("other keys", b'{"log-driver": "local"}'),
    DaemonJsonCase("null as root", b'{"data-root": null}'),
    DaemonJsonCase("empty root", b'{"data-root": ""}'),
    DaemonJsonCase("empty", b""),
    DaemonJsonCase("blanks", b" \n\t\n"),
    DaemonJsonCase("a mark alone", codecs.BOM_UTF16_LE),
    DaemonJsonCase("null", b"null"),
    DaemonJsonCase("nonsense", b"{nonsense", None),
    DaemonJsonCase("cut", b'{"data-root": ', None),
    DaemonJsonCase("list", b"[]", None),
    DaemonJsonCase("text", b'"text"', None),
    DaemonJsonCase("zero", b"0", None),
    DaemonJsonCase("false", b"false", None),
    DaemonJsonCase("number as root", b'{"data-root": 5}', None),
    DaemonJsonCase("false as root", b'{"data-root": false}', None),
    DaemonJsonCase("NaN", b'{"mtu": NaN}', None),
    DaemonJsonCase("no UTF-8", b'{"labels": ["\xff"]}', None),
    DaemonJsonCase("UTF-16 without a mark", _ROOT.encode("utf-16-le"), None),
    DaemonJsonCase("half of UTF-16", codecs.BOM_UTF16_LE + b"{", None),
    DaemonJsonCase("two marks", codecs.BOM_UTF8 * 2 + b"{}", None),
    DaemonJsonCase("too deep", b"[" * 100_000, None),
]


@dataclass(frozen=True)
class ContainerdCase:
    """The root that containerd's configuration names.

    Args:
        files: by their path in the configuration's directory; TOP stands for that directory.
        root: empty for the default.
    """

    name: str
    files: dict[str, str]
    root: str = ""

    def write(self, top: Path) -> Path:
        """Write the files; return the path of the configuration."""
        for name, text in self.files.items():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(text.replace("TOP", str(top)))
        return top / "config.toml"

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


CONTAINERDS = [
    ContainerdCase("no file", {}),
    ContainerdCase("root", {"config.toml": 'root = "/a"  # more room\n'}, "/a"),
    ContainerdCase("single quotes", {"config.toml": "version = 2\nroot='/a'\n"}, "/a"),
    ContainerdCase("comment", {"config.toml": '#root = "/a"\nroot_path = "/b"\n'}),
    ContainerdCase("in a table", {"config.toml": 'version = 2\n[plugins]\nroot = "/b"\n'}),
    ContainerdCase("pattern", {"config.toml": "imports = ['conf.d/*.toml']\n", "conf.d/x.toml": "root = '/b'\n"}, "/b"),
    ContainerdCase("pattern without a file", {"config.toml": 'root = "/a"\nimports = ["conf.d/*.toml"]\n'}, "/a"),
    ContainerdCase(
        "import overrides", {"config.toml": 'root = "/a"\nimports = ["x.toml"]', "x.toml": 'root = "/b"'}, "/b"
    ),
    ContainerdCase(
        "import without a root", {"config.toml": 'root = "/a"\nimports = ["x.toml"]', "x.toml": "version = 2\n"}, "/a"
    ),
    ContainerdCase(
        "several lines",
        {
            "config.toml": 'imports = [\n  "x.toml", # "none.toml"\n  "y/z=1.toml",\n]\nstate = "/s"\n',
            "x.toml": 'root = "/x"\n',
            "y/z=1.toml": 'root = "/z"\n',
        },
        "/z",
    ),
    # It comes after the others, from the directory of the file that names it.
    ContainerdCase(
        "import of an import",
        {
            "config.toml": 'imports = ["d/1.toml", "2.toml"]\n',
            "d/1.toml": 'imports = ["3.toml", "../config.toml"]\n',
            "d/3.toml": 'root = "/3"\n',
            "2.toml": 'root = "/2"\n',
        },
        "/3",
    ),
    ContainerdCase(
        "blanks", {"config.toml": 'imports = ["with blank/*.toml"]', "with blank/a b.toml": 'root = "/c"\n'}, "/c"
    ),
    ContainerdCase("imports in a table", {"config.toml": '[debug]\nimports = ["x.toml"]\n', "x.toml": 'root = "/b"\n'}),
    ContainerdCase(
        "empty imports",
        {"config.toml": "imports = []\nroot = '/a'\nstate = \"x.toml\"", "x.toml": 'root = "/b"\n'},
        "/a",
    ),
    ContainerdCase(
        "absolute", {"config.toml": 'imports = ["TOP/else/*.toml"]\n', "else/x.toml": 'root = "/x"\n'}, "/x"
    ),
]
