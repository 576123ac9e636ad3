# selfdev for NVIDIA GPUs: as cpu.Dockerfile, with PyPI's torch, which brings the CUDA libraries it was built with. The driver
# comes from the host, through the NVIDIA Container Toolkit (`docker run --gpus all`, or a Kubernetes device plugin).
#   docker build --file deployments/images/gpu.Dockerfile --tag selfdev:gpu .
FROM python:3.11.14-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1
ARG PIP_INDEX_URL
ARG EXTRAS=""

WORKDIR /src
RUN python -m venv /opt/selfdev
ENV PATH=/opt/selfdev/bin:$PATH

COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt torch

COPY pyproject.toml deployments/images/requirements.py ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python requirements.py "$EXTRAS" > requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt "hatchling>=1.27,<2"

COPY README.md LICENSE ./
COPY selfdev_core selfdev_core
COPY tasks tasks
COPY flows flows
COPY deployments deployments
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11.14-slim-bookworm

RUN useradd --uid 10001 --create-home selfdev \
    && install --directory --owner selfdev --group selfdev /var/lib/selfdev /var/lib/prefect
COPY --from=build /opt/selfdev /opt/selfdev
ENV PATH=/opt/selfdev/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SELFDEV_HOME=/var/lib/selfdev \
    PREFECT_HOME=/var/lib/prefect \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /var/lib/selfdev
CMD ["selfdev", "--help"]
