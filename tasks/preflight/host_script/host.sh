# shellcheck shell=sh
# shellcheck disable=SC2034,SC2046,SC2086,SC2154 # lists are meant to split; HostFacts sets variables, and the other parts use some
# What is asked of a host, section by section. It only reads. "$@": names of packages.
#
# docker and ctr run only while their daemons do: a request to docker.socket would start Docker. They ask this host's
# daemon, whichever one root's Docker context names.
# A daemon with userns-remap keeps its store one level down, in a directory such as 100000.100000.
# Processes of other PID namespaces are a dockerd inside a container, which is no rootless Docker.
# awk, where sed would do: awk ends every line. A file without a newline at its end would swallow the next section's
# mark. Processes are what it costs on the host: what the shell can do itself starts none, and what is asked of a program
# is asked at once.
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
proc=/proc self=$$ configuration=/etc/containerd/config.toml newline='
'
present() { for path; do [ ! -e "$path" ] || echo "$path"; done; }
section() { echo "##HOST## $*"; }
count() {
    find "$@" -mindepth 1 -maxdepth 1 -printf '%y %H\n' 2>/dev/null |
        awk '{ counts[$0]++ } END { for (kind in counts) print counts[kind], kind }'
}
section system; id -u; dpkg --print-architecture 2>/dev/null || uname -m
[ -d /run/systemd/system ] && echo systemd || echo other
section os; cat /etc/os-release
section packages; packages=$(dpkg-query -W -f '${Package} ${db:Status-Status} ${Version}\n' "$@" 2>/dev/null)
echo "$packages"
section offered; missing=
for name in $where_offered; do
    case $newline$packages in *"$newline$name installed "*) ;; *) missing="$missing $name" ;; esac
done
[ -z "$missing" ] || apt-cache policy $missing 2>/dev/null |
    awk '/^[^ ]/ { sub(":$", ""); name = $1 } $1 == "Candidate:" && $2 != "(none)" { print name }'
section dockerd; command -v dockerd
section snap; present /snap/docker /var/snap/docker
section rootless
for socket in /run/user/*/docker.sock; do [ -L "$socket" ] || [ ! -S "$socket" ] || stat -c %U "$socket"; done
set -- $(pgrep --ns $$ --nslist pid -x dockerd 2>/dev/null)
for pid; do stat -c %U "/proc/$pid" 2>/dev/null; done
section kubernetes
present /etc/kubernetes/manifests /var/lib/kubelet /var/lib/rancher /var/lib/k0s /var/snap/microk8s
section units
systemctl show -p Id -p LoadState -p ExecStart -p FragmentPath -p SourcePath -p DropInPaths -- \
    docker.service docker.socket containerd.service $mount_units 2>/dev/null | awk '
    # Of the drop-ins of a mount those that say what is mounted. `systemctl show` lists their paths, and they may have blanks.
    function flush(  command, line, file, files) {
        if (drop_ins && id ~ /\.mount$/) {
            # The name is quoted: systemd escapes every character of it that is not harmless.
            command = "systemctl cat -- \047" id "\047 2>/dev/null </dev/null"
            while ((command | getline line) > 0) {
                if (line ~ /^# \//) file = line ~ /\.d\/[^\/]*\.conf$/ ? substr(line, 3) : ""
                else if (line ~ /^[ \t]*What[ \t]*=/ && file) { files = files "\t" file; file = "" }
            }
            close(command)
            print "=DropIns=" substr(files, 2)
        }
        id = drop_ins = ""
    }
    /^$/ { flush() }
    /^Id=/ { id = substr($0, 4) }
    sub(/^DropInPaths=/, "") { drop_ins = $0; next }
    { print "=" $0 }
    END { flush() }'
section fails-closed; grep -ls ^Assert $drop_ins
section configuration; [ ! -e "$our_configuration" ] || awk '{ print "=" $0 }' "$our_configuration" 2>/dev/null
section options; [ ! -e /etc/default/docker ] || awk 'sub(/^[ \t]*DOCKER_OPTS=/, "")' /etc/default/docker 2>/dev/null
section daemon-json; [ ! -e "$daemon_json" ] || base64 "$daemon_json" 2>/dev/null
directory=${daemon_json%/*}; [ ! -L "$daemon_json" ] || { directory=$(readlink -f "$daemon_json"); directory=${directory%/*}; }
obstacle=; [ ! -f "$applied" ] || { section daemon-json-applied; base64 "$applied"; }
if [ -L "$daemon_json" ] && [ ! -e "$daemon_json" ]; then obstacle="a symbolic link to $(readlink "$daemon_json"), which does not exist"
elif [ -e "$daemon_json" ] && [ ! -f "$daemon_json" ]; then obstacle='no regular file'
elif [ -e "$daemon_json" ] && mountpoint -q "$daemon_json"; then obstacle='a mount point'
elif [ -e "$daemon_json" ] && ! { [ -w "$daemon_json" ] && [ -w "$directory/" ]; }; then
    obstacle='immutable, in an immutable directory, or on a read-only filesystem'; fi
[ ! "$obstacle" ] || { section daemon-json-obstacle; echo "$obstacle"; }
section containerd-config; [ ! -e "$configuration" ] || containerd_config
set -- $(systemctl is-active docker.service containerd.service bulkhead-relocate.service bulkhead-recover.service 2>/dev/null)
docker_is=$1 containerd_is=$2 moves=" $3 $4 " docker="timeout $patience docker --host $docker_host"
section info
[ "$docker_is" != active ] || $docker info --format '{{json .}}' 2>/dev/null
[ $? != 124 ] || { section docker-hangs; docker_is=hanging; } # the exit code of timeout
section namespaces
[ "$containerd_is" != active ] || timeout "$patience" ctr namespaces ls -q 2>/dev/null
[ ! -d "$containerd_store/io.containerd.runtime.v2.task" ] || ls "$containerd_store/io.containerd.runtime.v2.task" 2>/dev/null
section containerd-data
cd "$containerd_store" 2>/dev/null && count io.containerd.content.v1.content/blobs/sha256 \
    io.containerd.snapshotter.v1.*/snapshots io.containerd.runtime.v2.task/*
section docker-data
for store in "$docker_store" "$docker_store"/[0-9]*.[0-9]*; do
    cd "$store" 2>/dev/null || continue
    count image/*/imagedb/content/sha256 containers volumes plugins overlay2 fuse-overlayfs aufs/diff btrfs/subvolumes \
        devicemapper/mnt vfs/dir zfs/graph ! -name l ! -name storage ! -name tmp
    [ ! -s swarm/docker-state.json ] || echo swarm
    # The names in the values: identifiers in the keys outlive their networks in the free pages of the database, and the
    # default bridge gets a new one at every start of Docker.
    [ ! -f network/files/local-kv.db ] || grep -aoE '"name":"[^"]+","networkType"' network/files/local-kv.db 2>/dev/null
done
section sizes; are_mounted=yes
for store in "$docker_store" "$containerd_store"; do
    ! mountpoint -q "$store" || continue
    are_mounted=; [ ! -d "$store" ] || {
        du -sx --block-size=1 "$store"; echo "inodes $(du -sx --inodes "$store" | cut -f1)"; } 2>/dev/null
done
[ "$docker_is" != active ] || [ "$are_mounted" ] || {
    section containers; date +%s
    $docker ps --all --quiet | xargs --no-run-if-empty $docker inspect --format "$containers" 2>/dev/null
    section dangling-images; $docker images --quiet --no-trunc --filter dangling=true 2>/dev/null; }
[ -e "$journald" ] || [ -e "$applied" ] || { section journal; du -s --block-size=1 /var/log/journal 2>/dev/null; }
section device-volumes; present "$docker_store"/volumes/*/opts.json
section places
[ -z "$places" ] || find_login
for place in $places; do
    if [ ! -d "$place" ] || mountpoint -q "$place"; then continue; fi
    echo "size $place $(du -sx --block-size=1 "$place" | cut -f1) $(du -sx --inodes "$place" | cut -f1)"
    device=$(findmnt -no MAJ:MIN --target "$place")
    maps=$(printf ' %02x:%02x ' "${device%:*}" "${device#*:}")
    { find "$proc"/[0-9]*/cwd "$proc"/[0-9]*/root "$proc"/[0-9]*/exe "$proc"/[0-9]*/fd -type l \
        \( -lname "$place" -o -lname "$place/*" \); grep -l "$maps.* $place/" "$proc"/[0-9]*/maps; } 2>/dev/null |
        sed "s,^$proc/,," | cut -d/ -f1 | sort -un | while read -r pid; do
            # In a container a path is named from another root.
            # shellcheck disable=SC3013 # dash and bash have -ef
            [ "$(readlink "$proc/$pid/root")" != / ] || [ "$proc/$pid/root" -ef / ] || continue
            is_own "$pid" || ! read -r name <"$proc/$pid/comm" || echo "user $place $name (process $pid)"
        done
    bound_elsewhere "$place" | while read -r pid target; do
        read -r name <"$proc/$pid/comm" && echo "user $place $name (process $pid), which has it bound to $target"
    done
    # What the kernel itself uses shows in no process.
    { awk 'NR > 1 { print $1, "swap" }' "$proc/swaps"
      for file in /sys/block/loop*/loop/backing_file; do [ ! -e "$file" ] || echo "$(cat "$file") a loop device"; done
      grep -v v4root "$proc/fs/nfsd/exports" | awk '/^\// { print $1, "exported by NFS" }'; } 2>/dev/null |
        while read -r path use; do
            case $path in "$place" | "$place"/*) echo "user $place $path, which is $use" ;; esac
        done
done 2>/dev/null
section relocation
for journal in $journals; do
    [ ! -f "$journal" ] || sed -n "s,^ *\"phase\": \"\(.*\)\"\,*\$,$journal \1,p" "$journal" 2>/dev/null
done
case $moves in *" active "*|*activating\ *) echo under-way ;; esac
section sources
[ ! -f "$our_source" ] || echo "$our_source"
# named NUMBER [EXCEPT]
named() {
    while read -r number file; do [ "$number" != "$1" ] || [ "$file" = "$2" ] || echo "$file"; done <<EOF
$named
EOF
}
named=$(sources "${repository:--}" "${nvidia_repository:--}" nvidia.github.io/libnvidia-container/stable/deb)
[ -z "$repository" ] || named 1
section gpus
for device in /sys/bus/pci/devices/*; do
    # Vendor NVIDIA, class display controller. With vfio-pci it is handed to a virtual machine.
    { read -r vendor <"$device/vendor" && read -r class <"$device/class"; } 2>/dev/null || continue
    case "$vendor $class" in
        0x10de\ 0x03????) [ "$(basename "$(readlink "$device/driver")")" = vfio-pci ] || basename "$device" ;;
    esac
done
section gpu-driver
if [ -e /proc/driver/nvidia/version ]; then echo loaded; elif command -v nvidia-smi >/dev/null; then echo installed; fi
section stopped-by-upgrade; present "$stopped"
[ -z "$identify" ] || { section machine; machine; }
[ ! -e "$boot_unit" ] || { section boot-unit; echo yes; }
section toolkit; command -v nvidia-container-runtime
section toolkit-is-ours
[ ! -f "$nvidia_source" ] || { echo yes; section nvidia-containers
    [ "$docker_is" != active ] || $docker ps --all --quiet | xargs --no-run-if-empty \
        $docker inspect --format '{{.HostConfig.Runtime}} {{json .HostConfig.DeviceRequests}} {{.Name}}' 2>/dev/null |
        awk '{ name = substr($NF, 2); $NF = "" } /^nvidia|"gpu"|nvidia\.com\// { print name }'; }
section toolkit-sources
[ -z "$nvidia_repository" ] || named 2 "$nvidia_source"
named 3 "$nvidia_source"
true
