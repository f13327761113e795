# The incident's Dockerfile. The base has 7 GB, so it is the one to build with.
# file: create_default_speaker.py : from TTS.api import TTS\n\nTTS("tts_models/multilingual/multi-dataset/xtts_v2").tts_to_file("a", file_path="a.wav")
# file: .git/objects/pack = 5M
# file: notebooks/.ipynb_checkpoints/voices.ipynb = 2M
# file: tests/test_api.py = 20K
# ignore: __pycache__
# expect: devel-base=5.0GiB single-stage/warning base-without-digest/info
FROM nvidia/cuda:12.4.1-devel-ubuntu22.04
ENV DEBIAN_FRONTEND=noninteractive
# expect: toolchain-in-image=300.0MiB package-cache=20.0MiB
RUN apt-get update && apt-get install -y python3 python3-pip build-essential
WORKDIR /app
# expect: package-cache=2.7GiB
RUN pip install torch torchaudio
# expect: package-cache=0bytes split-install/warning
RUN pip install coqui-tts f5-tts
COPY create_default_speaker.py .
# expect: model-download=1.8GiB
RUN python3 create_default_speaker.py
# expect: incomplete-dockerignore=7.0MiB
COPY . /app
EXPOSE 8000
CMD ["python3", "-m", "uvicorn", "api:app", "--host", "0.0.0.0"]
