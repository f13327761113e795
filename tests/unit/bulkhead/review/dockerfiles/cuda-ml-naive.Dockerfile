# file: weights/model.safetensors = 400M
# expect: base-without-digest devel-base
FROM pytorch/pytorch:2.3.0-cuda12.1-cudnn8-devel
RUN pip install --no-cache-dir transformers accelerate
# expect: model-download=14.9GiB
RUN python -c "from transformers import AutoModel; AutoModel.from_pretrained('meta-llama/Llama-3.1-8B')"
# expect: model-download
RUN huggingface-cli download openai/whisper-large-v3 --local-dir /models/whisper
# expect: model-download
RUN wget -q https://huggingface.co/TheBloke/Mistral-7B-GGUF/resolve/main/mistral-7b.Q4_K_M.gguf -O /models/mistral.gguf
# expect: model-download
ADD https://dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth /models/sam.pth
# expect: models-copied=400.0MiB
COPY . /workspace
CMD ["python", "/workspace/serve.py"]
