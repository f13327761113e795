# expect: base-without-digest full-base
FROM python:3.11
RUN pip install --no-cache-dir poetry==1.8.2
ENV POETRY_CACHE_DIR=/tmp/poetry_cache
WORKDIR /app
COPY pyproject.toml poetry.lock ./
RUN --mount=type=cache,target=$POETRY_CACHE_DIR poetry install --no-root
COPY app ./app
# expect: package-cache
RUN poetry install
CMD ["poetry", "run", "python", "-m", "app"]
