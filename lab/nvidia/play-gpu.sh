#!/bin/sh
# Fake a GPU and its driver on a machine of the lab. Run as root. Nothing else changes.
#   play-gpu.sh device   add a PCI device of NVIDIA's to /sys/bus/pci/devices
#   play-gpu.sh driver   add the traces of a loaded driver: /proc/driver/nvidia, nvidia-smi, a line in modules.dep
#   play-gpu.sh gone     remove both
# A reboot removes the device and /proc/driver/nvidia: the driver then counts as not loaded.
set -eu

listing=/sys/bus/pci/devices
fake=/run/play-gpu
modules=/lib/modules/$(uname -r)
module='kernel/drivers/video/nvidia.ko:'

device() {
    ! mountpoint -q "$listing" || return 0
    mkdir -p "$fake/0000:41:00.0"
    for real in "$listing"/*; do
        [ ! -e "$real" ] || ln -s "$(readlink -f "$real")" "$fake/${real##*/}"
    done
    (
        cd "$fake/0000:41:00.0"
        echo 0x10de >vendor
        echo 0x2204 >device
        echo 0x030200 >class
    )
    mount --bind "$fake" "$listing"
}

driver() {
    if ! mountpoint -q /proc/driver; then
        mount -t tmpfs -o mode=0555 play-gpu /proc/driver
        mkdir /proc/driver/nvidia
        printf '%s\n' 'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build' \
            >/proc/driver/nvidia/version
    fi
    cat >/usr/bin/nvidia-smi <<'END'
#!/bin/sh
if [ "${1-}" = -L ]; then
    echo 'GPU 0: NVIDIA A100-PCIE-40GB (UUID: GPU-b01dface-0000-4000-8000-000000000000)'
    exit
fi
cat <<'TABLE'
+-------------------------------------------------------------------------+
| NVIDIA-SMI 580.95.05    Driver Version: 580.95.05    CUDA Version: 13.0 |
| 0  NVIDIA A100-PCIE-40GB    00000000:41:00.0        0MiB / 40960MiB     |
+-------------------------------------------------------------------------+
TABLE
END
    chmod 0755 /usr/bin/nvidia-smi
    # Last, because this triggers nvidia-cdi-refresh.path.
    mkdir -p "$modules"
    grep -qsxF "$module" "$modules/modules.dep" || echo "$module" >>"$modules/modules.dep"
}

gone() {
    for mounted in "$listing" /proc/driver; do
        ! mountpoint -q "$mounted" || umount "$mounted"
    done
    rm -rf "$fake" /usr/bin/nvidia-smi
    if grep -qsxF "$module" "$modules/modules.dep"; then
        sed -i "\\|^$module\$|d" "$modules/modules.dep"
    fi
}

case ${1-} in
device | driver | gone) "$1" ;;
*) echo "usage: $0 device | driver | gone" >&2; exit 2 ;;
esac
