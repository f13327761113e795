# file: data/big.bin = 9M
# file: data/sub/small = 10
# file: package.json : {}
# expect: base-without-digest
FROM node:20-slim AS assets
# expect: base-without-digest
FROM python:3.12-slim
WORKDIR /app
COPY data /app/data
# expect: copied-layer=9.0MiB
RUN chown --recursive app:app /app/data
RUN chown -R app:app /app/data/sub
COPY --from=assets /dist /srv/dist
# expect: copied-layer=0bytes
RUN chmod -R 0755 /srv
COPY package.json ./web/
RUN --mount=type=cache,target=/root/.npm cd web && npm ci
# expect: copied-layer
RUN groupadd x && chgrp -hR x ./web
RUN chown app:app /app && chmod +x /app/data/big.bin
CMD ["python", "/app/main.py"]
