# shellcheck shell=sh
# Use apt and dpkg beside other package managers (unattended-upgrades, cloud-init). They hold one of four locks: dpkg's two,
# that of apt's lists and that of its archives. apt itself waits for dpkg's only (DPkg::Lock::Timeout), dpkg for none.
# $patience: seconds to wait at most.

export LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l

# patiently PROGRAM ARGUMENT...: start it again as long as it finds one of the locks held. Its errors come after its end.
patiently() {
    # shellcheck disable=SC2154 # whoever reads this file sets it
    left=$patience
    deadline=$(($(date +%s) + left))
    # On a full root disk a file in /tmp exists, but stays empty.
    messages=$(mktemp /run/apt-messages.XXXXXX 2>/dev/null || mktemp /tmp/apt-messages.XXXXXX 2>/dev/null) || {
        echo "neither /run nor /tmp takes a file for the messages of apt and dpkg: neither was started" >&2
        return 1
    }
    while :; do
        "$@" 2>"$messages" && code=0 || code=$?
        if [ "$code" -eq 0 ] || [ "$left" -eq 0 ] || ! grep -qE 'Could not get lock | lock (is|was) locked by ' "$messages"; then
            break
        fi
        sleep 2
        left=$((deadline - $(date +%s)))
        [ "$left" -gt 0 ] || left=0 # apt waits for ever if it is negative
    done
    cat "$messages" >&2
    rm -f "$messages"
    return "$code"
}

apt_get() { patiently try_apt_get "$@"; }
try_apt_get() {
    apt-get -q -o DPkg::Lock::Timeout="$left" -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

# repair: finish what a cut has interrupted. Only dpkg can go on where dpkg stopped, and only apt can add a dependency.
# apt could also remove packages for that: their owner decides.
repair() {
    [ -n "$(dpkg --audit)" ] || [ -n "$(ls -A /var/lib/dpkg/updates)" ] || return 0
    patiently dpkg --configure -a --force-confdef --force-confold || true
    if ! apt_get -y --no-remove --fix-broken install; then
        echo "an installation that was cut before cannot be finished, for the reason above; no package was removed." \
            "\`apt-get --simulate --fix-broken install\` shows what apt would do: repair it, and run again" >&2
        return 1
    fi
}

# repaired COMMAND...: run a command after that. A function, so that a failure of either ends a script with set -e.
repaired() { repair && "$@"; }
