# expect: base-without-digest single-stage
FROM debian:12-slim
# expect: toolchain-in-image=0bytes
RUN curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y
COPY src /src
# expect: package-cache
RUN cd /src && cargo build --release
CMD ["/src/target/release/app"]
