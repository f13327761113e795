"""Stop Docker for a while, keep it down, and bring back what ran."""
