# bmz for a computer without a GPU, and for one with an NVIDIA GPU:
#
#   docker build --target cpu -t bmz .
#   docker build --target cuda -t bmz:cuda .
#   docker run --rm -v "$PWD":/work -v bmz-models:/cache bmz run starter/nuclei cells.tif -o results
#   docker run --rm --gpus all -v "$PWD":/work -v bmz-models:/cache bmz:cuda doctor
#
# Models are kept in /cache; files are written by the user who is given with --user, or by 1000.

FROM python:3.12-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
COPY share ./share
# the version comes from the tag of the release, which the context of a build has not
ARG VERSION=0.1.0
RUN SETUPTOOLS_SCM_PRETEND_VERSION="$VERSION" pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim-bookworm AS cpu
COPY --from=wheel /wheels /wheels
COPY constraints.txt /
# PyTorch without the libraries of CUDA
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch==2.13.0 \
    && wheel="$(ls /wheels/*.whl)" \
    && pip install --no-cache-dir -c /constraints.txt "${wheel}[onnx,torch,dask]" \
    && rm -r /wheels /constraints.txt \
    && useradd --create-home --uid 1000 bmz \
    && mkdir -m 0777 /cache /work
ENV BMZ_CACHE_DIR=/cache
VOLUME /cache
WORKDIR /work
USER 1000
ENTRYPOINT ["bmz"]
CMD ["--help"]

FROM nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04 AS cuda
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/bmz
ENV PATH=/opt/bmz/bin:$PATH
COPY --from=wheel /wheels /wheels
# the wheel is one file of this build, whose version is not known here
# hadolint ignore=DL3013
RUN wheel="$(ls /wheels/*.whl)" \
    && pip install --no-cache-dir "${wheel}[gpu,torch,dask]" \
    && rm -r /wheels \
    && mkdir -m 0777 /cache /work
ENV BMZ_CACHE_DIR=/cache
VOLUME /cache
WORKDIR /work
USER 1000
ENTRYPOINT ["bmz"]
CMD ["--help"]
