# shellcheck shell=sh disable=SC2154 # host.sh sets what is not set here
# Where a directory, or a part of it, is bound in another place too, on the host or in a container: that goes on with the
# old files when another filesystem is mounted on the directory. So does a mount of a directory above it, where new mounts
# do not appear. Prints, for each mount namespace, a process and the mount points.
# bulkhead.storage.mounts.bound_elsewhere decides the same: tests/unit/cases.py holds the cases for both.
# Values go to awk by its environment: it would take a backslash in a variable for an escape.
bound_elsewhere() {
    place=$1 awk '{ top = $5 == "/" ? "" : $5 }
        (ENVIRON["place"] == $5 || index(ENVIRON["place"], top "/") == 1) && length($5) >= length(target) {
            device = $3; root = $4; target = $5 }
        END { print device, root, target }' "$proc/$self/mountinfo" | {
        read -r device root holder
        inside=${root%/}${1#"${holder%/}"} here=$(readlink "$proc/$self/ns/mnt") visited=
        find "$proc"/[0-9]*/ns/mnt -maxdepth 0 -printf '%h %l\n' 2>/dev/null |
            sed 's,.*/\([0-9]*\)/ns ,\1 ,' | sort -n | while read -r pid namespace; do
            [ -n "$namespace" ] || continue # the process has ended
            case $visited in *" $namespace "*) continue ;; esac
            own_place=; [ "$namespace" != "$here" ] || own_place=$holder
            found=$(place=$1 device=$device inside=$inside own_place=$own_place awk '
                BEGIN { place = ENVIRON["place"]; inside = ENVIRON["inside"] }
                $3 != ENVIRON["device"] || $5 == ENVIRON["own_place"] { next }
                $4 == inside || index($4, inside "/") == 1 { if ($5 != place && index($5, place "/") != 1) print $5; next }
                $6 ~ /^rw/ && !/ (shared|master):/ && index(inside, ($4 == "/" ? "" : $4) "/") == 1 { print $5 }
                ' "$proc/$pid/mountinfo" 2>/dev/null) || continue # so has this one
            visited="$visited $namespace "
            printf '%s\n' "$found" | while read -r target; do [ -z "$target" ] || printf '%s\n' "$pid $target"; done
        done
    }
}
