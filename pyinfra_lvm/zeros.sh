# shellcheck shell=sh
# Shell functions that say whether a device holds only zeros. They compare, and do not count other bytes: a device that cannot
# be read must not pass. zeros DEVICE FROM BYTES. zeros_from DEVICE FROM: up to 17 MiB, and a MiB at each quarter and at the
# end. A disk whose first MiB somebody has zeroed still holds its filesystem, and must not count as blank.
zeros() { cmp -s -n "$3" -i "$2:0" "$1" /dev/zero; }
zeros_from() {
    last=$(( $(blockdev --getsize64 "$1") - 1048576 ))
    begin=$(( last < 16777216 ? last : 16777216 ))
    # shellcheck disable=SC2017 # a product could be too large for the shell
    zeros "$1" "$2" $(( begin + 1048576 - $2 )) &&
        zeros "$1" $(( last / 4 )) 1048576 && zeros "$1" $(( last / 2 )) 1048576 &&
        zeros "$1" $(( last / 4 * 3 )) 1048576 && zeros "$1" "$last" 1048576
}
