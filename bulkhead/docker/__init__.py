"""The engine: its API, its units, what it builds and holds."""
