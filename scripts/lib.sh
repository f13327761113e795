# shellcheck shell=sh
# What the commands in this folder share. Each sources it from the top of the checkout:
#   . "$(dirname "$0")/lib.sh"
# It leaves the shell in the top of the checkout, with `python` and `pyinfra` of the project's
# virtual environment first on PATH once `need_venv` has run.

cd "$(dirname "$0")/.." || exit 1
export PYTHONDONTWRITEBYTECODE=1

say() { printf '==> %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# need_packages NAME...: installs the Debian packages that are missing, as root or with sudo, and says which.
need_packages() {
    missing=
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "needs$missing, and this is no Debian or Ubuntu with apt-get: install them by hand"
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "needs root to install:$missing"
        as_root=sudo
        say "needs sudo to install:$missing"
    else
        say "installing:$missing"
    fi
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq update
    # shellcheck disable=SC2086 # the list is meant to split
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq install --no-install-recommends \
        $missing >/dev/null
}

# need_python: a python3 that is new enough, with what makes a virtual environment.
need_python() {
    if ! python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        need_packages python3 python3-venv
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
            die "needs Python 3.10 or newer; this machine's python3 is $(python3 --version)"
    fi
}

# make_venv DIRECTORY PYTHON: a virtual environment of this Python, exactly as requirements.lock says.
make_venv() {
    if ! cmp -s requirements.lock "$1/requirements.lock"; then
        say "installing the Python packages of requirements.lock into $1"
        rm -rf "$1"
        "$2" -m venv "$1"
        "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
        cp requirements.lock "$1/requirements.lock"
    fi
}

# need_venv: the project's virtual environment in .venv.
need_venv() {
    need_python
    make_venv .venv python3
    PATH="$PWD/.venv/bin:$PATH"
    export PATH
}

# need_lab_packages: what makes and runs the lab's virtual machines. uidmap: mmdebstrap without root; debian-archive-keyring:
# Debian's images on Ubuntu.
need_lab_packages() {
    need_packages qemu-system-x86 qemu-utils mmdebstrap uidmap debian-archive-keyring fakeroot e2fsprogs openssh-client \
        xorriso gpg gpgconf gpg-agent dpkg-dev apt-utils procps
}

# need_unpacked PACKAGE...: the programs of these Debian packages on PATH, without installing them: their services must not
# run on this machine.
need_unpacked() {
    unpacked=${BULKHEAD_CACHE:-$HOME/.cache/docker-bulkhead}/unpacked
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
