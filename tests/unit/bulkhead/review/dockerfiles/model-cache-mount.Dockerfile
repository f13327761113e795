# syntax=docker/dockerfile:1
# What a mount keeps is not in the image, and a program that loads from a directory fetches nothing.
# file: convert.py : from transformers import AutoModel\nAutoModel.from_pretrained("/models/mine")\nAutoModel.from_pretrained("org/other", local_files_only=True)
# expect: base-without-digest
FROM python:3.12-slim
RUN --mount=type=cache,target=/root/.cache/huggingface \
    --mount=type=cache,target=/root/.cache/pip \
    pip install huggingface_hub && hf download org/model config.json
COPY convert.py /app/
RUN python /app/convert.py
RUN wget -O /tmp/model.onnx https://example.org/model.onnx && /app/quantize /tmp/model.onnx /app/small.bin && rm /tmp/model.onnx
CMD ["python", "/app/serve.py"]
