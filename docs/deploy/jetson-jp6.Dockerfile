# Jetson with JetPack 6.1 or 6.2. From the repository's root, on the board:
#   pip wheel --no-deps -w dist . && docker build -f docs/deploy/jetson-jp6.Dockerfile -t embedge .
#   docker run --runtime nvidia -p 50051:50051 -v "$PWD/engines:/engines:ro" -v embedge-cache:/cache embedge
# Written from documentation; it was not built on a board. The image is that of JetPack 6.1, the newest of its kind.
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0

RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv python3-libnvinfer \
    && rm -rf /var/lib/apt/lists/*
# TensorRT's Python module comes with JetPack, not from pip.
RUN python3 -m venv --system-site-packages /srv/embedge
COPY dist/*.whl /dist/
# cuda-bindings 12 is the last for this driver, which knows CUDA 12.6.
RUN /srv/embedge/bin/pip install --no-cache-dir "$(ls /dist/*.whl)[cpu,serve,cuda]" "cuda-bindings==12.*"

RUN useradd --system --groups video embedge && install -d -o embedge -m 700 /cache
USER embedge
ENV EMBEDGE_CACHE=/cache
VOLUME /cache
EXPOSE 50051
STOPSIGNAL SIGTERM
ENTRYPOINT ["/srv/embedge/bin/embedge"]
CMD ["serve", "/engines", "--host", "0.0.0.0"]
