# expect: base-without-digest single-stage=1.2GiB
FROM rust:1.79
WORKDIR /usr/src/myapp
COPY . .
# expect: package-cache
RUN cargo install --path .
CMD ["myapp"]
