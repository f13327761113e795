# Whoever names the models means it.
# file: weights/a.onnx = 300M
# file: weights/labels.txt = 3K
# file: small/b.onnx = 3M
# expect: base-without-digest
FROM python:3.12-slim
# expect: models-copied/info models-copied=300.0MiB
COPY weights /models
COPY small /small
CMD ["python", "-m", "app"]
