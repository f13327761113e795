# syntax=docker/dockerfile:1
# expect: base-without-digest
FROM debian:12-slim
RUN <<EOF
set -e
# apt-get install gcc
apt-get update
apt-get install -y --no-install-recommends nginx-light
rm -rf /var/lib/apt/lists/*
EOF
COPY <<EOF /usr/share/nginx/html/index.html
RUN apt-get install gcc
EOF
# expect: package-cache
RUN <<-SCRIPT bash -e
	apt-get update
	apt-get install -y curl
	SCRIPT
CMD ["nginx", "-g", "daemon off;"]
