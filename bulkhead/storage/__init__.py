"""LVM, fstab, mounts, filesystems, and Docker's volume."""
