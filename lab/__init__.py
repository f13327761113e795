"""Throwaway virtual machines under QEMU: what the README's first command shows, and the ground of the tests."""
