"""Show the disks, Docker's data, forecasts and alerts on one page."""
