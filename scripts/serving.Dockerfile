# An image that serves a registered model from a folder that is mounted; it holds packages and neither model nor posts.
# docs/serving.md says how to run it.
#
# mlflow artifacts download --artifact-uri models:/mentallam-smollm2@champion --dst-path model
# docker build --file scripts/serving.Dockerfile --tag mentallam-serving model
FROM python:3.11-slim

# The index of PyTorch's builds for CPUs; for a GPU use https://download.pytorch.org/whl/cu126 or another CUDA version.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" --requirement /tmp/requirements.txt \
    && useradd --uid 10001 --create-home serving

USER 10001
WORKDIR /home/serving
ENV MLFLOW_DISABLE_TELEMETRY=true MENTALLAM_BASE_MODELS=/base
EXPOSE 5000
HEALTHCHECK --start-period=120s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:5000/ping')"]
# All interfaces of the container; `docker run --publish 127.0.0.1:5000:5000` decides which of the machine's are reached.
ENTRYPOINT ["mlflow", "models", "serve", "--model-uri", "/model", "--env-manager", "local", "--host", "0.0.0.0"]
