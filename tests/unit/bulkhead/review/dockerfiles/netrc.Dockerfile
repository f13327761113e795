# file: .netrc : machine example.org login me password hunter2
# file: key.pem : -----BEGIN EC PRIVATE KEY-----
# file: service-account.json : {"type": "service_account", "private_key": "x"}
# file: credentials.json : {"installed": {}}
# file: .env.local : export API_KEY="abcdef"
# file: deploy/id_ed25519 : -----BEGIN OPENSSH PRIVATE KEY-----
# ignore: .git
# expect: base-without-digest
FROM debian:12-slim
# expect: secret-copied/error
COPY .netrc /root/
# expect: secret-copied
COPY key.pem /
# expect: secret-copied
COPY service-account.json /
COPY credentials.json /
# expect: secret-copied
COPY .env.local /app/
# expect: secret-copied
ADD deploy /deploy
RUN --mount=type=bind,source=.netrc,target=/root/.netrc true
CMD ["/app"]
