# file: pyproject.toml : [project]
# expect: base-without-digest
FROM python:3.12-slim
COPY --from=ghcr.io/astral-sh/uv:0.4.20 /uv /uvx /bin/
# expect: copy-before-install
COPY . /app
WORKDIR /app
# expect: package-cache
RUN uv sync --frozen
CMD ["uv", "run", "app"]
