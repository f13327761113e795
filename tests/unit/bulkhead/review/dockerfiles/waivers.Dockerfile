# bulkhead: allow=base-without-digest
# expect: base-without-digest waiver-without-reason
FROM debian:12-slim
# bulkhead: allow=package-cache,toolchain-in-image this image is rebuilt never
# allowed: package-cache
# expect: unused-waiver
RUN apt-get update && apt-get install -y curl
# bulkhead: allow=no-such-rule because
# expect: unused-waiver
RUN true
# bulkhead: allow=DL3008 hadolint may be elsewhere
# bulkhead: allow=secret-copied somebody has one there
COPY app /app
CMD ["/app"]
