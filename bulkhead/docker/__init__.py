"""Docker: its API, its units, its builds, and what it holds."""
