"""What a run has done to a fleet: a verdict for each host, the run's output, and its summary."""
