# file: id_rsa : -----BEGIN OPENSSH PRIVATE KEY-----
# file: .npmrc : //registry.example.org/:_authToken=abcdef
# file: certs/server.key : -----BEGIN PRIVATE KEY-----
# file: certs/ca.pem : -----BEGIN CERTIFICATE-----
# file: config/credentials.json : {"private_key": "x"}
# expect: base-without-digest
FROM node:20-slim
# expect: secret-in-variable
ARG NPM_TOKEN
# expect: secret-in-variable
ENV DATABASE_URL=postgres://app:hunter2@db/app
# expect: secret-copied
COPY id_rsa /root/.ssh/id_rsa
# expect: secret-copied
COPY .npmrc package.json ./
RUN --mount=type=cache,target=/root/.npm npm ci
# expect: secret-copied
COPY certs /certs
# expect: secret-copied
ADD config/credentials.json /app/
CMD ["node", "."]
