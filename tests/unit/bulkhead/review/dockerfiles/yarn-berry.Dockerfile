# A cache that the program is linked out of.
# file: .yarnrc.yml : nodeLinker: pnp
# expect: base-without-digest
FROM node:20-slim
WORKDIR /app
COPY .yarnrc.yml package.json yarn.lock ./
COPY .yarn ./.yarn
RUN corepack enable && yarn install --immutable
COPY src ./src
CMD ["yarn", "node", "src/index.js"]
