# file: src/main.py = 300
# ignore: none
# expect: base-without-digest
FROM python:3.12-slim
# expect: no-dockerignore/info
COPY . /app
CMD ["python", "/app/src/main.py"]
