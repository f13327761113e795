# expect: base-without-digest single-stage
FROM golang:1.22
WORKDIR /src
# expect: copy-before-install
COPY . .
# expect: package-cache
RUN go mod download
# expect: package-cache
RUN go build -o /usr/local/bin/server .
CMD ["server"]
