# expect: base-without-digest
FROM continuumio/miniconda3:24.5.0-0
COPY environment.yml .
RUN conda env create -f environment.yml && conda clean -afy
COPY src /app
CMD ["conda", "run", "-n", "app", "python", "/app/main.py"]
