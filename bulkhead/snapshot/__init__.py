"""Take a snapshot of Docker's volume, and go back to it."""
