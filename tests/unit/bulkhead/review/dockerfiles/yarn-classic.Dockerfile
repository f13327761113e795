# file: package.json : {}
# file: yarn.lock : x
# expect: base-without-digest
FROM node:20-slim
WORKDIR /app
COPY package.json yarn.lock ./
# expect: package-cache
RUN yarn --frozen-lockfile
RUN yarn build && yarn run lint
# expect: package-cache
RUN yarn global add serve && yarn add left-pad
RUN yarn install --production && yarn cache clean
COPY . .
RUN npm run build --if-present && npm prune && npm --version
CMD ["yarn", "start"]
