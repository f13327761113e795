"""Dockerfiles, .dockerignore and the build context, read as Docker reads them."""
