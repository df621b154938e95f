# A server with an NVIDIA GPU and driver 580 or newer. From the repository's root:
#   pip wheel --no-deps -w dist . && docker build -f docs/deploy/server-cuda.Dockerfile -t embedge .
#   docker run --gpus all -p 50051:50051 -v "$PWD/engines:/engines:ro" -v embedge-cache:/cache embedge
# Written from documentation; it was not built, nor run on a GPU. NVIDIA takes images of superseded releases away.
FROM nvidia/cuda:13.0.0-cudnn-runtime-ubuntu24.04

RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /srv/embedge
COPY dist/*.whl /dist/
RUN /srv/embedge/bin/pip install --no-cache-dir "$(ls /dist/*.whl)[gpu,serve,cuda,tensorrt]"

RUN useradd --system embedge && install -d -o embedge -m 700 /cache
USER embedge
ENV EMBEDGE_CACHE=/cache
VOLUME /cache
EXPOSE 50051
STOPSIGNAL SIGTERM
ENTRYPOINT ["/srv/embedge/bin/embedge"]
CMD ["serve", "/engines", "--host", "0.0.0.0"]
