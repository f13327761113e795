"""Throwaway virtual machines under QEMU, for the demonstration in the README and for the tests."""


class LabError(Exception):
    """An error whose message is for the user of the lab."""
