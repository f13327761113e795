"""LVM, filesystems and mounts for pyinfra: operations, and one fact that reads all of it in one round trip.

The operations create and grow; none shrinks, wipes or removes. They refuse to destroy anything, and every command that
writes to a device checks the device once more on the host right before it writes.
"""
