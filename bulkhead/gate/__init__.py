"""Hold a build to limits."""
