# expect: base-without-digest
FROM python:3.12-slim AS models
RUN pip install huggingface_hub
RUN hf download sentence-transformers/all-mpnet-base-v2 --local-dir /models/mpnet
# expect: base-without-digest
FROM python:3.12-slim-bookworm
# expect: model-download
COPY --from=models /models /models
CMD ["python", "-m", "serve"]
