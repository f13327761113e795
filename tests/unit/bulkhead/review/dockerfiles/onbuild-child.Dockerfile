# expect: base-without-digest
FROM node:20-slim AS parent
WORKDIR /app
# expect: package-cache
ONBUILD RUN npm install
FROM parent
COPY src /app/src
CMD ["npm", "start"]
