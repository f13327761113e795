# shellcheck shell=sh
# shellcheck disable=SC2016,SC2086 # lists are meant to split, and a script within the script expands by itself
# $1: devices that are probed for zeros, separated by spaces; the shell expands patterns, and "disks" stands for all.
# $2: directories that are inspected beneath mounts, likewise. $3: files that are disks, likewise.
#
# Processes are what it costs on the host: a program is asked for everything at once, and the shell does the rest itself.
#
# - Signatures come from the devices themselves: lsblk's FSTYPE comes from udev's database, which may be stale. wipefs ends
#   at a device that it cannot open, and prints nothing: then each device is asked for alone.
# - lsblk prints a tree: in a list each device has only one parent, and the second disk beneath a volume seems unused.
# - Sizes of filesystems come from lsblk: findmnt asks every mount, and hangs on a dead NFS server.
# - A physical volume that pvcreate has just made has its label in the first 4 KiB, an empty metadata header of 512
#   bytes after it, and nothing else. One whose group was removed still has the group's text (lvm2, format_text).
# - An ext4 counts its mounts. A new xfs has used 3 inodes (root, and two for its realtime part).
# - The superblock of a mounted xfs, read from the device, still has the size from when it was mounted: xfs writes past
#   the page cache. xfs_info asks the kernel; without xfsprogs nothing can have grown.
# - fstab is encoded, so that it comes back byte for byte, with or without a newline at its end.
# - Which disks the copies of a mirror are on, is asked only where there is one.
# - A directory is seen beneath the mounts on it where its parent is bound without them. `cd -P` resolves symbolic links.
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
section() { echo "##STORAGE## $*"; }
section lsblk
lsblk --json --bytes --paths --output NAME,KNAME,TYPE,SIZE,RO,RM,MODEL,TRAN,MAJ:MIN,FSSIZE,FSAVAIL,MOUNTPOINTS
section links; find /dev -xdev -path /dev/char -prune -o -type l -printf '%p %l\n' 2>/dev/null
devices='' volumes='' ext='' xfs='' disks=''
while read -r device type; do
    case "$type $devices " in rom*|loop*|*" $device "*) continue ;; esac
    devices="$devices $device"
    case $type in lvm) volumes="$volumes $device " ;; disk|mpath|raid*) disks="$disks $device" ;; esac
done <<EOF
$(lsblk --noheadings --list --paths --output KNAME,TYPE)
EOF
signatures() { wipefs --no-act --noheadings --output DEVICE,TYPE,UUID "$@" 2>/dev/null; }
found=$(signatures $devices) || found=$(for device in $devices; do signatures "$device"; done)
section signatures; echo "$found"
while read -r name type _; do
    case "$volumes$type" in *"/$name "*ext*) ext="$ext /dev/$name" ;; *"/$name "*xfs) xfs="$xfs /dev/$name" ;; esac
done <<EOF
$found
EOF
[ -z "$ext" ] || for device in $ext; do section "device $device"; dumpe2fs -h "$device" 2>/dev/null; done |
    sed -n 's/^Block count: */ext-blocks /p; s/^Block size: */ext-block-size /p; s/^Mount count: */ext-mounts /p
        s/^Inode count: */ext-inodes /p; /^##/p'
for device in $xfs; do
    section "device $device"; printf 'xfs-superblock '; od -An -v -w140 -j4 -N140 -tu1 "$device" || echo
    xfs_info "$device" 2>/dev/null | sed -n 's/^data .*bsize=\([0-9]*\) *blocks=\([0-9]*\),.*/xfs-blocks \1 \2/p'
done
case " $1 " in *" disks "*) set -- "$1$disks" "$2" "$3" ;; esac
probed=
for device in $1; do
    [ -b "$device" ] || continue
    device=$(readlink -f "$device") || continue
    case "$probed " in *" $device "*) continue ;; esac # by another name
    probed="$probed $device"
    section "ends $device"
    if zeros_from "$device" 0; then echo zeros
    elif zeros "$device" 0 512 && zeros_from "$device" 4608; then echo beyond-header
    fi
done
section findmnt
findmnt --kernel --list --json --output TARGET,SOURCE,FSROOT,FSTYPE,OPTIONS,PROPAGATION,MAJ:MIN
section fstab; [ ! -f /etc/fstab ] || base64 /etc/fstab
section directories
[ -z "$2" ] || unshare --mount --propagation private sh -c '
    is_empty() { set -- "$1"/* "$1"/.[!.]* "$1"/..?*; for entry; do [ ! -e "$entry" ] && [ ! -L "$entry" ] || return; done; }
    bound=
    for path in $1; do
        parent=${path%/*}; parent=${parent:-/}
        if [ "$parent" != "$bound" ]; then
            cd /; [ -z "$bound" ] || umount /mnt; bound=
            [ ! -d "$parent" ] || ! mount --bind "$parent" /mnt 2>/dev/null || bound=$parent
        fi
        if [ -z "$bound" ]; then echo "absent - - $path"; continue; fi
        beneath=/mnt/${path##*/}
        kind=other; [ -e "$beneath" ] || kind=absent
        [ ! -d "$beneath" ] || kind=directory
        [ ! -L "$beneath" ] && cd -P "$parent" && [ "$PWD" = "$parent" ] || kind=symlink
        empty=-; flags=-
        if [ "$kind" = directory ]; then
            ! is_empty "$beneath" || empty=empty
            flags=$(lsattr -d "$beneath" 2>/dev/null); flags=${flags%% *}
        fi
        echo "$kind $empty ${flags:--} $path"
    done' sh "$2" 2>/dev/null
[ -z "$3" ] || { section kernel; uname -r; }
for image in $3; do
    section "image $image"
    [ -e "$image" ] || [ -L "$image" ] || continue
    stat -c 'stat %U:%a %h %s %b %F' "$image"
    if [ ! -f "$image" ] || [ -L "$image" ]; then continue; fi
    # Of ext4 and xfs only xfs can share extents between files.
    [ "$(stat -f -c %T "$image")" != xfs ] || ! filefrag -v "$image" 2>/dev/null | grep -qw shared || echo shared
    loops=$(losetup --noheadings --output NAME --associated "$image")
    for loop in $loops; do
        echo "loop $loop $(blockdev --getsize64 "$loop") $(cat "/sys/class/block/${loop##*/}/queue/discard_max_bytes")"
    done
    [ "$loops" ] || signatures "$image" | sed 's/^[^ ]* */signature /'
done
section tools
for tool in mkfs.ext4 mkfs.xfs resize2fs xfs_growfs lvcreate; do command -v "$tool" >/dev/null && echo "$tool"; done
read -r release </proc/sys/kernel/osrelease
for name in dm-raid dm-mirror; do
    for module in "/sys/module/dm_${name#dm-}" "/lib/modules/$release"/*/drivers/md/"$name".ko*; do [ ! -e "$module" ] || echo "$name"; done
done
if command -v lvs >/dev/null; then
    report() { "$@" --reportformat json --units b --nosuffix 2>/dev/null; }
    section pvs; report pvs -o pv_name,vg_name,pv_size,pv_free,pv_missing,pe_start
    groups() {
        report vgs -o "vg_name,vg_size,vg_free,vg_extent_size,vg_missing_pv_count,vg_tags,vg_uuid,vg_permissions,vg_exported,vg_clustered,vg_shared,vg_lock_type$1"
    }
    # LVM before 2.03.12 knows no autoactivation of groups, and refuses a column that it does not know.
    section vgs; found=$(groups ,vg_autoactivation) || found=$(groups); echo "$found"
    volumes=$(report lvs -a -o lv_name,vg_name,lv_size,lv_active,segtype,origin,lv_tags,lv_health_status)
    section lvs; printf '%s\n' "$volumes"
    case $volumes in *raid1*) section parts; report pvs --segments -o pv_name,vg_name,lv_name ;; esac
    # What is not set is not printed.
    section lvm-config; lvmconfig activation/auto_activation_volume_list activation/volume_list global/event_activation \
        devices/filter devices/global_filter 2>/dev/null
fi
true
