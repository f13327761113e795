"""Tell a machine from a copy of its root disk."""

from __future__ import annotations

# The shell function `machine` prints a word that stands for this machine; nothing where the firmware has no UUID of its own.
# Only root can read that UUID, so the word is a digest. A copy of the root disk has another UUID. Some boards have none, or
# the one of their vendor's template, or one digit throughout, which libvirt refuses too (virUUIDIsValid). The machine's ID in
# /etc is copied with the disk, and adds what a UUID that is on two boards does not tell: who makes a copy renews it.
MACHINE = r"""machine() {
    uuid=$(cat /sys/class/dmi/id/product_uuid 2>/dev/null | tr A-F a-f)
    echo "$uuid" | grep -Eqx '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}' || return
    case $uuid in 03000200-0400-0500-0006-000700080009) return ;; esac
    [ -n "$(printf %s "$uuid" | tr -d "$(printf %.1s "$uuid")-")" ] || return
    echo "$uuid $(cat /etc/machine-id)" | sha256sum | cut -d' ' -f1
}
"""
