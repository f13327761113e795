# file: scripts/fetch.sh : #!/bin/sh\nset -eu\n# curl https://huggingface.co/a/b.bin\ncurl -fsSL -o /models/yolo.onnx https://example.org/releases/yolo.onnx
# file: scripts/setup.sh : #!/bin/sh\nmkdir -p /models
# expect: base-without-digest
FROM debian:bookworm-slim
COPY scripts/ /scripts/
RUN /scripts/setup.sh
# expect: model-download
RUN sh /scripts/fetch.sh
CMD ["/app"]
