# expect: base-latest single-stage
FROM alpine
# expect: package-cache toolchain-in-image
RUN apk add build-base python3 py3-pip
# expect: package-cache
RUN pip3 install flask
COPY app.py /
CMD ["python3", "/app.py"]
