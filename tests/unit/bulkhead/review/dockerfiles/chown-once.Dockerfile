# file: app/main.py = 2K
# expect: base-without-digest
FROM node:20-slim AS assets
# expect: base-without-digest
FROM python:3.12-slim
RUN useradd app && mkdir -p /data && chown -R app:app /data
COPY --chown=app:app app /app
COPY app /srv/app
RUN chmod -R a+rX /srv/app
COPY --chown=app:app --from=assets /dist /app/static
RUN mkdir /app/cache && chown -R app:app /app
USER app
CMD ["python", "/app/main.py"]
