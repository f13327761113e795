"""Decide, before the first change, whether a host can be provisioned and as what."""
