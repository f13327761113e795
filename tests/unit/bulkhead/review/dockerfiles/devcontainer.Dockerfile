# An image to work in has a toolchain.
# expect: base-without-digest
FROM mcr.microsoft.com/devcontainers/python:1-3.12-bullseye
RUN apt-get update && export DEBIAN_FRONTEND=noninteractive \
    && apt-get -y install --no-install-recommends build-essential cmake \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
COPY requirements.txt /tmp/
RUN pip install --no-cache-dir -r /tmp/requirements.txt
