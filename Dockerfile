# syntax=docker/dockerfile:1
# Two stages: pip and the build tools stay behind, the image holds Python, the pinned packages and Gnomon.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
RUN python -m venv /opt/gnomon
ENV PATH=/opt/gnomon/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements requirements
# Every archive is checked against its hash, the build tools too.
RUN pip install --no-deps --require-hashes --requirement requirements/build.txt \
 && pip install --no-deps --require-hashes --no-build-isolation --requirement requirements/demo.txt
COPY . .
RUN pip install --no-deps --no-build-isolation . \
 && pip uninstall --yes hatchling editables setuptools wheel pip

FROM ${PYTHON_IMAGE}
RUN useradd --system --create-home --uid 10001 gnomon \
 # A named volume takes its owner from here.
 && install --directory --owner gnomon /models
COPY --from=build /opt/gnomon /opt/gnomon
ENV PATH=/opt/gnomon/bin:$PATH PYTHONUNBUFFERED=1 MPLCONFIGDIR=/tmp/matplotlib
USER gnomon
WORKDIR /home/gnomon
ENTRYPOINT ["gnomon"]
CMD ["--help"]
