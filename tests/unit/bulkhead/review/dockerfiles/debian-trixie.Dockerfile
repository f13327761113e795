# expect: base-without-digest
FROM debian:trixie-slim
RUN apt-get update && apt-get install -y --no-install-recommends curl && apt-get dist-clean
RUN set -eux; apt-get update; apt-get install -y --no-install-recommends tzdata ; apt-get distclean
# expect: package-cache
RUN apt-get update && apt-get install -y --no-install-recommends jq && apt-get clean
COPY app /app
CMD ["/app"]
