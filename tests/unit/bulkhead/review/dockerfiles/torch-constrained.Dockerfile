# file: requirements.txt : fastapi\nuvicorn
# expect: base-without-digest
FROM python:3.12-slim
ENV PIP_NO_CACHE_DIR=1
RUN pip install torch --index-url https://download.pytorch.org/whl/cpu
COPY requirements.txt .
RUN pip install -r requirements.txt
RUN pip install -c constraints.txt sentence-transformers
COPY app /app
CMD ["python", "/app/main.py"]
