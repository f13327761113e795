"""bulkhead: the program of docker-bulkhead on each host. Python's standard library only."""

__version__ = "0.1.0"


class Problem(Exception):
    """What goes wrong in a known way: the message is for people, and says what to do."""
