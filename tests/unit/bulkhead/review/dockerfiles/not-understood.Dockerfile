# What is not read with certainty is left alone.
# expect: base-without-digest
FROM debian:12-slim
ARG EXTRA
RUN if [ "$EXTRA" = gpu ]; then apt-get update && apt-get install -y gcc; fi
RUN test -f /nowhere && pip install torch || true
RUN install_things() { apt-get update; apt-get install -y gcc; } ; echo defined
RUN echo "unclosed
RUN case "$(uname -m)" in x86_64) wget https://huggingface.co/a/b/resolve/main/c.bin ;; esac
COPY app /app
CMD ["/app"]
