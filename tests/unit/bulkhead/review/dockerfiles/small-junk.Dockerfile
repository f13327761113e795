# file: src/__pycache__/main.pyc = 3K
# ignore: .git
# expect: base-without-digest
FROM python:3.12-slim
COPY . /app
CMD ["python", "/app/src/main.py"]
