# file: tools/get.py : import torch.hub\nprint(torch.hub.load("ultralytics/yolov5", "yolov5s"))
# file: tools/whisper_get.py : import whisper as w\nw.load_model("large-v3")
# file: tools/plain.py : import json\njson.load(open("x"))\nprint("from_pretrained")
# expect: base-without-digest/info
FROM python:3.12-slim
WORKDIR /app
# expect: model-download
RUN git clone https://huggingface.co/org/model /models/m
RUN git clone https://github.com/org/program /opt/program
RUN GIT_LFS_SKIP_SMUDGE=1 git clone https://huggingface.co/org/other
# expect: model-download
RUN git lfs install && cd /models/other && git lfs pull
# expect: model-download
RUN (ollama serve &) && ollama pull llama3:8b
RUN ollama list
# expect: model-download
RUN gdown 1a2b3c -O /models/a.bin
# expect: model-download
RUN kaggle datasets download -d org/data
# expect: model-download=563.2MiB
RUN spacy download en_core_web_lg
RUN spacy validate
# expect: model-download
RUN aws s3 cp s3://bucket/weights/model.safetensors /models/
RUN curl -fsSLO https://huggingface.co/org/model/resolve/main/config.json
RUN curl -fsSL https://get.example.org/setup_20.x | bash -
# expect: model-download
RUN --mount=type=bind,source=tools,target=/tools python /tools/get.py
COPY tools tools
RUN python -m json.tool tools/plain.py
RUN python tools/plain.py
# expect: model-download=2.9GiB
RUN python -u -m tools.whisper_get
RUN python -m nltk.downloader punkt
CMD ["python", "-m", "app"]
