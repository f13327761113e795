"""LVM, filesystems and mounts for pyinfra: one fact that takes all of it in one round trip, and operations.

The operations create and grow; nothing in here shrinks, wipes or removes. What would destroy something is refused,
and every command that writes to a device looks at the device once more on the host right before it does.
"""
