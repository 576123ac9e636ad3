# selfdev without a GPU: the Prefect server, workers and one-off commands all run from this image.
#   docker build --file deployments/images/cpu.Dockerfile --tag selfdev:cpu .
# Layers go from what seldom changes to what often does: torch, the other libraries, our code.
FROM python:3.11.14-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1
# Where pip looks (a mirror, say); unset, it is PyPI. torch comes from its own index: PyPI's brings gigabytes of CUDA with it.
ARG PIP_INDEX_URL
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
# Optional dependencies of pyproject.toml, comma-separated; `kubernetes` for a worker that starts Kubernetes jobs.
ARG EXTRAS=""

WORKDIR /src
RUN python -m venv /opt/selfdev
ENV PATH=/opt/selfdev/bin:$PATH

COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --constraint constraints.txt --index-url "$TORCH_INDEX_URL" torch

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

# An ordinary user with a fixed number, so that volumes keep their owner and a pod can demand `runAsNonRoot`.
RUN useradd --uid 10001 --create-home selfdev \
    && install --directory --owner selfdev --group selfdev /var/lib/selfdev /var/lib/prefect
COPY --from=build /opt/selfdev /opt/selfdev
ENV PATH=/opt/selfdev/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SELFDEV_HOME=/var/lib/selfdev \
    PREFECT_HOME=/var/lib/prefect \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1
USER 10001:10001
WORKDIR /var/lib/selfdev
# No HEALTHCHECK here: server, worker and one-off commands are healthy in different ways; compose.yaml has one for each.
# No ENTRYPOINT either: Prefect's workers give a container its whole command.
CMD ["selfdev", "--help"]
