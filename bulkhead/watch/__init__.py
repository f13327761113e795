"""Check the disks and Docker, and alert when something changes."""
