# shellcheck shell=sh
# shellcheck disable=SC2013,SC2086 # names of files in /proc have no blanks, and the fields of stat are meant to split
# $1: the lock's path. $2: "take" or "read". $3: who asks. $4: seconds to wait for the last command of a killed run.
# Field 22 of /proc/PID/stat, the start time, tells a process from a later one with the same number (proc(5)).
lock=$1 mode=$2 who=$3 patience=$4
started() { { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1; set -- ${stat##*) }; echo "${20}"; }
ancestor() {
    process=$1
    while :; do
        parent=
        { while read -r name value; do [ "$name" != PPid: ] || { parent=$value; break; }; done <"/proc/$process/status"
        } 2>/dev/null
        process=$parent
        [ "${process:-0}" -gt 1 ] || return 1
        { read -r command <"/proc/$process/comm"; } 2>/dev/null || return 1
        case $command in sshd*|python*|pyinfra*) echo "$process"; return ;; esac
    done
}
orphan() {
    for file in $(grep -lzs '^BULKHEAD_RUN=' /proc/[0-9]*/environ); do
        left=${file#/proc/}; left=${left%/environ}
        if [ -d "/proc/$left" ] && ! ancestor "$left" >/dev/null; then return 0; fi
    done
    return 1
}
# Without such an ancestor (a connector that is neither ssh nor local) nothing shows whose command an orphan is.
if anchor=$(ancestor $$); then tied=yes; else anchor=$PPID tied=''; fi
while [ "$tied" ] && orphan; do
    # Our own connection is gone: the orphan is this script itself.
    ancestor $$ >/dev/null || exit
    if [ "$patience" -le 0 ]; then echo "left $left"; exit; fi
    patience=$((patience - 1)); sleep 1
done
if [ "$mode" = take ]; then exec 9>>"$lock"; flock 9; fi
if [ -s "$lock" ] && read -r pid start holder <"$lock" && [ "$(started "$pid")" = "$start" ] && [ "$pid" != "$anchor" ]
then echo "held $holder; process $pid on the host"; exit
elif [ "$mode" = take ]; then echo "$anchor $(started "$anchor") $who, since $(date -u '+%F %T UTC')" >"$lock"
fi
echo free
