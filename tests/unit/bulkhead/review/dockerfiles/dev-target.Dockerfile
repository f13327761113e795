# target: development
# expect: base-without-digest
FROM golang:1.22 AS development
WORKDIR /src
RUN --mount=type=cache,target=/go/pkg/mod go install github.com/air-verse/air@v1.52.3
COPY . .
CMD ["air"]
FROM development AS build
RUN go build -o /app .
FROM debian
COPY --from=build /app /app
