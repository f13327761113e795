# expect: base-without-digest
FROM quay.io/jupyter/scipy-notebook:2024-05-27
USER root
# bulkhead: allow=toolchain-in-image people compile extensions in their notebooks
# allowed: toolchain-in-image
RUN apt-get update --yes && apt-get install --yes --no-install-recommends build-essential cython3 && \
    apt-get clean && rm -rf /var/lib/apt/lists/*
USER ${NB_UID}
RUN mamba install --yes 'xgboost' && \
    mamba clean --all -f -y && \
    fix-permissions "${CONDA_DIR}" && \
    fix-permissions "/home/${NB_USER}"
COPY notebooks /home/jovyan/notebooks
