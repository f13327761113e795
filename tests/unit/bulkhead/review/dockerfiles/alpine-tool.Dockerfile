FROM alpine:3.20@sha256:0000000000000000000000000000000000000000000000000000000000000003
RUN apk --no-cache add ca-certificates tzdata \
 && update-ca-certificates
COPY ca.pem /usr/local/share/ca-certificates/ca.crt
COPY entrypoint.sh /
RUN chmod +x /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
# file: ca.pem : -----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----
