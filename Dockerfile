# Two stages: pip and the build tools stay behind, an image holds Python, the pinned packages and Gnomon.
#   docker build .                 the service: score, join, labels, reports, maintenance
#   docker build --target demo .   with the flights of 2013, their models and their live service
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
RUN python -m venv /opt/gnomon
ENV PATH=/opt/gnomon/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1
COPY requirements requirements
# Every archive is checked against its hash, the build tools too.
RUN pip install --no-deps --require-hashes --requirement requirements/build.txt \
 && pip install --no-deps --require-hashes --no-build-isolation --requirement requirements/service.txt
COPY . .
# The packages' own tests and headers, and the parts of Arrow that nothing here imports, are a sixth of them.
RUN pip install --no-deps --no-build-isolation . \
 && pip uninstall --yes hatchling editables setuptools wheel pip \
 && find /opt/gnomon -depth \( -name __pycache__ -o -name tests -o -name '*.pyi' -o -path '*/pyarrow/include' \
    -o -path '*/onnx/backend/test' -o -name 'libarrow_flight*' -o -name 'libarrow_s3*' -o -name libarrow_python.so \
    -o -name 'libarrow_python.so.*.*.*' -o -name sample_data -o -name '*.c' -o -name '*.h' -o -name '*.pyx' -o -name '*.pxd' \
    -o -name '*.hpp' -o -name '*.cc' -o -name '*.cpp' \) \
    -exec rm -rf {} + \
 && gnomon --version && python -c "import pyarrow.parquet, pyarrow.compute, pyruhvro, onnxruntime, onnx, scipy.stats"

FROM build AS build-demo
RUN python -m ensurepip \
 && python -m pip install --no-deps --require-hashes --requirement requirements/demo.txt \
 && python -m pip uninstall --yes pip setuptools \
 && find /opt/gnomon -depth -name __pycache__ -exec rm -rf {} +

FROM ${PYTHON_IMAGE} AS base
RUN useradd --system --create-home --uid 10001 gnomon \
 # A named volume takes its owner from here.
 && install --directory --owner gnomon /models
ENV PATH=/opt/gnomon/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp/matplotlib
# By number: `runAsNonRoot` of Kubernetes cannot tell what a name is.
USER 10001
WORKDIR /home/gnomon
ENTRYPOINT ["gnomon"]
CMD ["--help"]

FROM base AS demo
COPY --from=build-demo /opt/gnomon /opt/gnomon

FROM base AS service
COPY --from=build /opt/gnomon /opt/gnomon
