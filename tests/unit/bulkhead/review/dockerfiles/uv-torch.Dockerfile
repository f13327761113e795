# expect: base-without-digest
FROM python:3.12-slim
# expect: package-cache=2.7GiB
RUN uv pip install --system torch torchvision
# expect: package-cache split-install
RUN uv pip install --system sentence-transformers fastapi
# expect: package-cache=0bytes
RUN pip install torch --index-url https://download.pytorch.org/whl/cpu
CMD ["python", "-m", "app"]
