"""Throwaway virtual machines under QEMU: what the README's first command shows, and the ground of the tests."""


class LabError(Exception):
    """A message for the user of the lab."""
