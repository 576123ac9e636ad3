# selfdev for NVIDIA GPUs with vLLM beside it, in an environment of its own: campaigns with
#   engine: {kind: vllm, python: /opt/vllm/bin/python}
#   docker build --file deployments/images/gpu.Dockerfile --tag selfdev:gpu .
#   docker build --file deployments/images/gpu-vllm.Dockerfile --tag selfdev:gpu-vllm .
ARG BASE=selfdev:gpu
FROM ${BASE}

ARG PIP_INDEX_URL
USER 0
# Triton compiles its kernels with a C compiler when they are first used.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
# The range that selfdev checks when an engine starts (selfdev_core/engines/vllm/environment.py).
RUN python -m venv /opt/vllm \
    && /opt/vllm/bin/pip install --no-cache-dir "vllm>=0.32,<0.33"
USER 10001:10001
