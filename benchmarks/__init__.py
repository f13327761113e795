"""Figures, as ratios taken in one run: `scripts/benchmark` lists them."""
