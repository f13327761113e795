# file: .npmrc : //registry.example.org/:_authToken=${NPM_TOKEN}\nengine-strict=true
# file: .env : NEXT_PUBLIC_API_URL=https://example.org\nPORT=3000
# file: .env.example : API_KEY=
# file: tokens.json : {}
# ignore: .git
# expect: base-without-digest
FROM node:20-slim
ARG SENTRY_RELEASE
ARG NEXT_PUBLIC_MAPS_API_KEY
ENV API_KEY="" SECRET_KEY_FILE=/run/secrets/key MAX_TOKENS=4096 TOKENIZERS_PARALLELISM=false
ENV SECRET_KEY_BASE=dummy DATABASE_URL=postgres://db/app AUTH_TOKEN=$TOKEN
COPY .npmrc .env .env.example tokens.json package.json ./
RUN --mount=type=secret,id=npm,env=NPM_TOKEN --mount=type=cache,target=/root/.npm npm ci
CMD ["node", "."]
