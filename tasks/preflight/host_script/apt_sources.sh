# shellcheck shell=sh
# The files of apt that name an address of a list: prints number of the address and file. An entry of deb822, which is a
# paragraph, can be disabled (sources.list(5)); the words for that are those of apt's StringToBool. A comment does not end a
# paragraph, and the end of a file does.
sources() {
    addresses=$* && set --
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [ ! -f "$file" ] || set -- "$@" "$file"
    done
    [ $# = 0 ] || addresses=$addresses awk '
        function judge(  n, list, i) {
            n = split(ENVIRON["addresses"], list, " ")
            if (tolower(entry) !~ /(^|\n)enabled:[ \t]*(no|false|without|off|disable|0+)[ \t]*(\n|$)/)
                for (i = 1; i <= n; i++) {
                    sub(/^[^:]*:\/\//, "", list[i])
                    if (index(entry, list[i]) && !((i, file) in found)) { found[i, file]; print i, file }
                }
            entry = ""
        }
        FNR == 1 { judge(); file = FILENAME }
        /^[ \t]*#/ { next }
        /^$/ { judge(); next }
        { entry = entry (entry == "" ? "" : "\n") $0 }
        END { judge() }' "$@" 2>/dev/null
}
