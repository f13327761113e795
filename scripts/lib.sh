# shellcheck shell=sh
# What the commands in this folder share. Each defines `usage`, then sources this file:
#   . "$(dirname "$0")/lib.sh"
# Afterwards the shell is in the top of the checkout, and $caller is the directory that the command was typed in.
# `need_venv` puts `python` and `pyinfra` of the project's virtual environment first on PATH.

caller=$PWD
CDPATH="" cd "$(dirname "$0")/.." || exit 1
export PYTHONDONTWRITEBYTECODE=1

# mke2fs and other tools of the system are in directories that an ordinary Debian user does not have on PATH.
for directory in /usr/local/sbin /usr/sbin /sbin; do
    case ":$PATH:" in
        *":$directory:"*) ;;
        *) PATH=$PATH:$directory ;;
    esac
done
export PATH

# In a container of a CI, the user may have no entry in passwd. Python then takes its name from LOGNAME (getpass.getuser, which
# paramiko calls too) and its home from HOME; ssh_user in the inventory is the login on the hosts. Docker sets HOME=/, where the
# user cannot write the hosts' keys.
if ! id -un >/dev/null 2>&1; then
    LOGNAME=${LOGNAME:-${USER:-uid-$(id -u)}}
    if [ -z "${HOME:-}" ] || ! { [ -w "$HOME" ] || [ -d "$HOME/.ssh" ]; }; then
        HOME=$PWD/.home
        mkdir -p "$HOME"
    fi
    export LOGNAME HOME
fi

# What the commands bring along, and do not install. lab/cache.py has the same path.
cache=${BULKHEAD_CACHE:-${HOME:-$PWD/.home}/.cache/docker-bulkhead}
unpacked=$cache/unpacked

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'scripts/%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }
# wrong_usage MESSAGE: the command line is wrong.
wrong_usage() { printf 'scripts/%s: %s (see --help)\n' "$(basename "$0")" "$*" >&2; exit 2; }

# answer_help ARGUMENT...: if -h or --help is among the arguments, prints the usage and exits. Arguments after -- belong to
# another program.
answer_help() {
    for argument in "$@"; do
        case $argument in
            -h | --help) usage "$@"; exit 0 ;;
            --) return 0 ;;
        esac
    done
}

# answer_help_by MODULE TEXT ARGUMENT...: prints the help of a module that needs no packages, with this machine's Python. Where
# that is missing or too old, prints the text: --help installs nothing.
answer_help_by() {
    module=$1 text=$2
    shift 2
    if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        printf '%s\n' "$text" 'The full help needs Python 3.10 or newer.'
        return
    fi
    # An unknown word among the arguments must not prevent the help.
    python3 -m "$module" "$@" 2>/dev/null || python3 -m "$module" --help
}

# from_caller FILE: prints the absolute path of a file that the caller has named.
from_caller() {
    case $1 in
        /*) printf '%s\n' "$1" ;;
        *) printf '%s\n' "$caller/$1" ;;
    esac
}

# find_inventory INVENTORY: sets $inventory for pyinfra: a file in the caller's directory or at the top of the checkout, the name
# of a host, or a connector (@local).
find_inventory() {
    inventory=$1
    if [ "$caller" != "$PWD" ] && [ -f "$(from_caller "$inventory")" ]; then
        inventory=$(from_caller "$inventory")
    fi
    [ ! -f "$inventory" ] || return 0
    case $inventory in
        @* | *,*) ;;
        */* | *.py) wrong_usage "there is no inventory $inventory" ;;
    esac
}

# need_packages NAME...: installs the Debian packages that are missing, as root or with sudo, and says which.
need_packages() {
    missing=
    # All at once: it reads the whole list of packages first.
    packages=$(dpkg-query -W -f '${Package}:${db:Status-Status} ' "$@" 2>/dev/null) || true
    for package in "$@"; do
        case " $packages" in *" $package:installed "*) ;; *) missing="$missing $package" ;; esac
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null ||
        die "there is no apt-get here; install these packages yourself:$missing"
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "there is no sudo here; install these packages as root:$missing"
        as_root=sudo
        say "installing Debian packages with sudo:$missing"
    else
        say "installing Debian packages:$missing"
    fi
    # shellcheck disable=SC2086 # the list is meant to split
    $as_root sh -c 'patience=600 && . ./files/apt.sh && apt_get -qq update &&
        apt_get -qq -y install --no-install-recommends "$@" >/dev/null' sh $missing
}

# need_python: a python3 that is new enough, with what makes a virtual environment.
need_python() {
    if ! python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        need_packages python3 python3-venv
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
            die "this needs Python 3.10 or newer; python3 is $(python3 --version) here"
    fi
}

# make_venv DIRECTORY PYTHON [LOCK]: a virtual environment of this Python, exactly as a lock file says (requirements.lock). After
# an upgrade of the system to another Python, which does not find the packages of the old one, it is made anew. Of several
# commands that start at once, one makes it, and the others wait.
make_venv() {
    lock=${3:-requirements.lock}
    is_current "$1" "$lock" && return
    mkdir -p "$(dirname "$1")"
    (
        ! command -v flock >/dev/null || flock 9
        ! is_current "$1" "$lock" || exit 0
        say "installing the Python packages of $lock into $1"
        rm -rf "$1"
        "$2" -m venv "$1"
        "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$lock"
        cp "$lock" "$1/requirements.lock"
    ) 9>"$1.lock"
}

# is_current DIRECTORY LOCK: whether a virtual environment is as the lock file says, and has packages for the Python that it leads
# to, /usr/bin/python3.11 for instance.
is_current() {
    cmp -s "$2" "$1/requirements.lock" || return
    interpreter=$(readlink -f "$1/bin/python") && [ -e "$interpreter" ] || return
    case $interpreter in */python3.*) [ -d "$1/lib/${interpreter##*/}" ] ;; esac
}

# need_venv: the project's virtual environment in .venv.
need_venv() {
    is_current .venv requirements.lock || need_python
    make_venv .venv python3
    PATH="$PWD/.venv/bin:$PATH"
    export PATH
}

# need_lab_packages: what makes and runs the lab's virtual machines. uidmap: mmdebstrap without root; debian-archive-keyring:
# Debian's images on Ubuntu.
need_lab_packages() {
    need_packages qemu-system-x86 qemu-utils mmdebstrap uidmap debian-archive-keyring fakeroot e2fsprogs openssh-client \
        xorriso gpg gpgconf gpg-agent dpkg-dev apt-utils procps fdisk
    # shellcheck source=/dev/null
    [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" != bookworm ] || unpack_newer_qemu
}

# unpack_newer_qemu: QEMU of bookworm-backports, which lab/qemu.py prefers. It starts a process and enters the kernel in half the
# time of Debian 12's own, whose firmware and libraries it uses. apt's own lists and sources stay as they are.
unpack_newer_qemu() {
    # shellcheck disable=SC2016 # apt fills these in
    archive=$(apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^Debian bookworm //p' | head -n 1)
    [ -n "$archive" ] && ! [ -d "$unpacked/qemu" ] && ! [ -e "$unpacked/no-newer-qemu" ] || return 0
    say "unpacking a newer QEMU into $unpacked"
    apt=$unpacked/qemu.apt
    rm -rf "$apt"
    mkdir -p "$apt/lists/partial" "$apt/parts"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive bookworm-backports main" >"$apt/sources.list"
    if (
        set -- -qq -o APT::Sandbox::User=root -o "Dir::Etc::sourcelist=$apt/sources.list" -o "Dir::Etc::sourceparts=$apt/parts" \
            -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt"
        apt-get "$@" -o APT::Update::Error-Mode=any update && cd "$apt/parts" &&
            apt-get "$@" download qemu-system-x86/bookworm-backports && dpkg-deb -x ./*.deb "$apt/qemu" &&
            "$apt/qemu/usr/bin/qemu-system-x86_64" --version >/dev/null
    ); then
        mv "$apt/qemu" "$unpacked/qemu"
    else
        say "there is no newer QEMU that runs here; the installed one takes longer. To try again: rm $unpacked/no-newer-qemu"
        touch "$unpacked/no-newer-qemu"
    fi
    rm -rf "$apt"
}

# need_unpacked PACKAGE...: the programs of these Debian packages on PATH, without installing them: their services must not
# run on this machine.
need_unpacked() {
    for package in "$@"; do
        if ! [ -d "$unpacked/$package" ]; then
            say "unpacking $package into $unpacked"
            rm -rf "$unpacked/$package.part"
            mkdir -p "$unpacked/$package.part"
            (cd "$unpacked/$package.part" && apt-get -qq -o APT::Sandbox::User=root download "$package" && dpkg-deb -x ./*.deb . && rm ./*.deb)
            mv "$unpacked/$package.part" "$unpacked/$package"
        fi
        PATH="$PATH:$unpacked/$package/usr/bin"
    done
    export PATH
}
