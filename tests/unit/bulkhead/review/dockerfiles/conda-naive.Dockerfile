# expect: base-latest
FROM continuumio/miniconda3:latest
COPY environment.yml .
# expect: package-cache
RUN conda env update -n base -f environment.yml
# expect: toolchain-in-image package-cache
RUN conda install -y -c conda-forge compilers numpy
COPY src /app
CMD ["python", "/app/main.py"]
