# expect: base-without-digest
FROM debian:12-slim
# expect: package-cache
RUN ["/bin/bash", "-c", "apt-get update && apt-get install -y curl"]
RUN ["apt-get", "clean"]
# The shell sees $ and ; in quotes: nothing here is a command.
RUN ["echo", "apt-get update; pip install x"]
RUN echo 'pip install torch' > /notes && printf '%s\n' "apt-get update"
COPY app /app
CMD ["/app"]
