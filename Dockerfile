# docker build -t clipdeepfake .
# docker run --gpus all --shm-size 64G -it --rm -v "$PWD":/app clipdeepfake
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
# Outside /app, so that a repository mounted over /app does not hide what was installed.
ENV VIRTUAL_ENV=/opt/clipdeepfake PATH=/opt/clipdeepfake/bin:$PATH
RUN python -m venv $VIRTUAL_ENV
WORKDIR /app
COPY . /app
# torch's own wheels carry the CUDA libraries; the host needs the NVIDIA driver and container toolkit only.
RUN sh install.sh --here && ln -s $VIRTUAL_ENV .venv
CMD ["bash"]
