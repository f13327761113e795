"""Move data onto its volume, and back."""
