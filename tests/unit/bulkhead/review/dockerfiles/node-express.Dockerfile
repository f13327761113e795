# syntax=docker/dockerfile:1
# file: package.json : {}
# expect: base-without-digest
FROM node:20-alpine AS base
WORKDIR /usr/src/app
ENV NODE_ENV=production
RUN --mount=type=bind,source=package.json,target=package.json \
    --mount=type=bind,source=package-lock.json,target=package-lock.json \
    --mount=type=cache,target=/root/.npm \
    npm ci --omit=dev
USER node
COPY . .
EXPOSE 3000
CMD ["node", "src/index.js"]
