# shellcheck shell=sh disable=SC2154 # host.sh sets what is not set here
# The top-level keys of containerd's configuration, from its file and those that it imports, in the order in which containerd
# reads them: a later file overrides an earlier one. A path that is not absolute begins at the directory of the file that
# has it (containerd, cmd/containerd/server/config/config.go, LoadConfig and resolveImports). $configuration: the first file.
containerd_config() (
    set -- "$configuration" && visited=
    while [ $# -gt 0 ]; do
        file=$(realpath -ms "$1") && shift
        case $visited in *" $file "*) continue ;; esac
        visited="$visited $file "
        keys=$(awk '/^[ \t]*\[/ { exit } { print }' "$file" 2>/dev/null)
        printf '%s\n' "$keys"
        case $keys in *imports*) ;; *) continue ;; esac
        while IFS= read -r path; do
            case $path in /*) ;; ?*) path=${file%/*}/$path ;; esac
            # shellcheck disable=SC2086
            IFS= && set -- "$@" $path # a pattern becomes the files that it matches
        done <<EOF
$(printf '%s\n' "$keys" | awk '
    /^[ \t]*imports[ \t]*=/ { within = 1 }
    within {
        while (match($0, /"[^"]*"|\047[^\047]*\047/) && !index(substr($0, 1, RSTART), "#")) {
            print substr($0, RSTART + 1, RLENGTH - 2); $0 = substr($0, RSTART + RLENGTH)
        }
        if (index($0, "]")) exit
    }')
EOF
    done
)
