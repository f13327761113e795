# expect: base-without-digest
FROM golang:1.22
WORKDIR /src
COPY go.mod main.go ./
CMD ["go", "run", "."]
