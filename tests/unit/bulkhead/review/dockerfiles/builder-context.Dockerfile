# file: .git/HEAD = 20
# file: .git/objects = 3M
# ignore: none
# expect: base-without-digest
FROM golang:1.22 AS build
# expect: no-dockerignore=0bytes
COPY . /src
RUN cd /src && go build -o /app .
FROM scratch
COPY --from=build /app /app
ENTRYPOINT ["/app"]
