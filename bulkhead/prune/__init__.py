"""Remove what Docker no longer needs."""
