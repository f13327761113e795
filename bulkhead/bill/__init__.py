"""Measure what a build takes on disk, and what its image is made of."""
