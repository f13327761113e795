ARG CUDA=12.4.1
ARG UBUNTU=22.04
# expect: base-without-digest
FROM nvidia/cuda:${CUDA}-cudnn-runtime-ubuntu${UBUNTU}
ENV PIP_NO_CACHE_DIR=1
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip ffmpeg && rm -rf /var/lib/apt/lists/*
COPY requirements.txt /tmp/requirements.txt
RUN pip install -r /tmp/requirements.txt && rm /tmp/requirements.txt
COPY app /app
CMD ["python3", "/app/main.py"]
