# file: package.json : {}
# file: node_modules/left-pad/index.js = 3M
# file: .git/HEAD = 30
# ignore: none
# expect: base-latest
FROM node
WORKDIR /app
# expect: copy-before-install no-dockerignore=3.0MiB
COPY . .
# expect: package-cache
RUN npm install
# expect: copied-layer
RUN chown -R node:node /app
USER node
CMD ["npm", "start"]
