# expect: base-without-digest
FROM alpine:3.20
# No RUN builds anything: containers may need it.
# expect: toolchain-in-image/info
RUN apk add --no-cache gcc make musl-dev perl
COPY unixbench /usr/src/unixbench
ENTRYPOINT ["/usr/src/unixbench/Run"]
