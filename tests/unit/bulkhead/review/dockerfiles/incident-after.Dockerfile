# syntax=docker/dockerfile:1
# What the incident's review decided, written out.
# file: create_default_speaker.py : from TTS.api import TTS\n\nTTS("tts_models/multilingual/multi-dataset/xtts_v2")
# file: requirements.txt : torch==2.4.0\ntorchaudio==2.4.0\ncoqui-tts==0.24.1\nf5-tts==0.3.4
# file: .git/objects/pack = 5M
FROM nvidia/cuda:12.4.1-devel-ubuntu22.04@sha256:0000000000000000000000000000000000000000000000000000000000000001 AS builder
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv python3-dev build-essential
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY requirements.txt .
RUN pip install -r requirements.txt

FROM nvidia/cuda:12.4.1-runtime-ubuntu22.04@sha256:0000000000000000000000000000000000000000000000000000000000000002
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 libsndfile1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=builder /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH HF_HOME=/app/models TTS_HOME=/app/models
WORKDIR /app
COPY . /app
VOLUME /app/models
EXPOSE 8000
CMD ["python3", "-m", "uvicorn", "api:app", "--host", "0.0.0.0"]
