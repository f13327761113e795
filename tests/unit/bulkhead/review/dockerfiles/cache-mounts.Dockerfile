# syntax=docker/dockerfile:1
# expect: base-without-digest
FROM ubuntu:24.04
RUN rm -f /etc/apt/apt.conf.d/docker-clean; echo 'Binary::apt::APT::Keep-Downloaded-Packages "true";' > /etc/apt/apt.conf.d/keep-cache
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt,sharing=locked \
    apt-get update && apt-get --no-install-recommends install -y python3-pip
RUN --mount=type=cache,target=/root/.cache pip install --break-system-packages flask
RUN --mount=type=secret,id=token,env=TOKEN curl -H "Authorization: Bearer $TOKEN" -o /etc/app.conf https://example.org/app.conf
COPY app.py /
CMD ["python3", "/app.py"]
