# Jetson with JetPack 7.0 or 7.1 (Thor). From the repository's root, on the board:
#   pip wheel --no-deps -w dist . && docker build -f docs/deploy/jetson-jp7.Dockerfile -t embedge .
#   docker run --runtime nvidia -p 50051:50051 -v "$PWD/engines:/engines:ro" -v embedge-cache:/cache embedge
# JetPack 7.2 (Orin, too): take nvidia/cuda:13.2.1-runtime-ubuntu24.04, and as TENSORRT what
# `dpkg-query -W libnvinfer10` says on the board.
# Written from documentation; it was not built on a board. That CUDA's package sources for this image have
# python3-libnvinfer in that version is not verified; NVIDIA takes images of superseded releases away.
FROM nvcr.io/nvidia/cuda:13.0.2-runtime-ubuntu24.04

ARG TENSORRT=10.13.3.9-1+cuda13.0
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
        libnvinfer10=${TENSORRT} libnvinfer-plugin10=${TENSORRT} \
        libnvonnxparsers10=${TENSORRT} python3-libnvinfer=${TENSORRT} \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --system-site-packages /srv/embedge
COPY dist/*.whl /dist/
RUN /srv/embedge/bin/pip install --no-cache-dir "$(ls /dist/*.whl)[cpu,serve,cuda]"

RUN useradd --system --groups video embedge && install -d -o embedge -m 700 /cache
USER embedge
ENV EMBEDGE_CACHE=/cache
VOLUME /cache
EXPOSE 50051
STOPSIGNAL SIGTERM
ENTRYPOINT ["/srv/embedge/bin/embedge"]
CMD ["serve", "/engines", "--host", "0.0.0.0"]
