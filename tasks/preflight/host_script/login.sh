# shellcheck shell=sh disable=SC2154 # host.sh sets what is not set here
# The processes of our own login: they descend from our sshd, or our sshd from them; or they are in our session of
# systemd's, or in the user's own systemd, which came with the session. Call find_login before is_own.
# $proc: where /proc is; $self: our own process. bulkhead.login.Login decides the same: tests/unit/cases.py holds the cases
# for both.
line() { # a process and its ancestors
    process=$1
    while [ "${process:-0}" -gt 1 ]; do
        echo "$process"; parent=
        { while read -r name value; do [ "$name" != PPid: ] || { parent=$value; break; }; done <"$proc/$process/status"
        } 2>/dev/null
        process=$parent
    done
}
find_login() {
    own=$(line "$self") group=$(cat "$proc/$self/cgroup")
    for process in $own; do
        anchor=$process; read -r name <"$proc/$process/comm"; case $name in sshd*) break ;; esac
    done
}
is_own() {
    { line "$1" | grep -qx "$anchor"; } || { echo "$own" | grep -qx "$1"; } && return
    case ${group##*/} in session-*) ;; *) return 1 ;; esac
    case $(cat "$proc/$1/cgroup" 2>/dev/null) in "$group" | "${group%/*}"/user@*) return ;; esac
    return 1
}
