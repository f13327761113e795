# What needs the sources, or was installed before, comes after them.
# file: package.json : {}
# file: pyproject.toml : [project]
# expect: base-without-digest
FROM python:3.12-slim
ENV PIP_NO_CACHE_DIR=1
WORKDIR /app
COPY package.json ./
RUN --mount=type=cache,target=/root/.npm npm ci
COPY . .
RUN pip install .
RUN pip install -e . && pip install -r requirements.txt .
RUN --mount=type=cache,target=/root/.npm npm ci
RUN --mount=type=cache,target=/root/.npm npm install -g serve
RUN pip install -r requirements.txt --no-deps
CMD ["python", "-m", "app"]
