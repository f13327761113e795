"""Run docker build after checking that it fits."""
