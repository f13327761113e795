# It ships nothing: the toolchain is what it is for.
# expect: base-without-digest
FROM debian:12
RUN apt-get update && apt-get install -y build-essential cmake ninja-build gdb && rm -rf /var/lib/apt/lists/*
RUN curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y
