"""One file for each capability of a host."""
