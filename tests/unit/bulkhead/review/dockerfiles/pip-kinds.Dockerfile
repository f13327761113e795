# file: requirements.txt : # torch\ntorch == 2.4.0  # GPU\nflask\n-r more.txt
# file: small.txt : flask
# expect: base-without-digest
FROM python:3.12-slim
WORKDIR /app
RUN pip install --upgrade pip setuptools
RUN python -m pip install -U pip
COPY requirements.txt small.txt ./
# expect: package-cache=2.7GiB
RUN pip install -r requirements.txt
# expect: package-cache=0bytes
RUN pip install -r small.txt
# expect: package-cache=0bytes
RUN uv pip install --system flask
RUN pip list && pip check && pip config set global.no-cache-dir true
COPY pyproject.toml src ./
RUN pip install --no-cache-dir .
RUN pip install flask && pip cache purge
RUN pip install flask && rm -rf ~/.cache/pip
# expect: package-cache
RUN pip install flask && rm -rf /var/lib/apt/lists/*
RUN PIP_NO_CACHE_DIR=1 pip install flask
RUN --mount=type=tmpfs,target=/root/.cache pip install flask
# expect: package-cache
RUN --mount=type=cache,target=/var/cache/apt pip install flask
# expect: package-cache
RUN pip install --no-cache-dir a && pip install b
CMD ["flask", "run"]
