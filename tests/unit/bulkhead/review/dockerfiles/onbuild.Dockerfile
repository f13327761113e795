# What an ONBUILD does, it does in the images of others.
# expect: base-without-digest
FROM node:20-slim AS parent
ONBUILD COPY package.json /app/
ONBUILD RUN npm install
WORKDIR /app
CMD ["npm", "start"]
