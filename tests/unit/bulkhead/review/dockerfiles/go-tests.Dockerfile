# An image that starts nothing of its own is to build and to test with.
# expect: base-without-digest
FROM golang:1.22 AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/root/.cache/go-build --mount=type=cache,target=/go go build ./...
FROM build
RUN --mount=type=cache,target=/root/.cache/go-build --mount=type=cache,target=/go go vet ./...
