# Images of Coppice: `operator` (the control plane half, without torch) and `pruner` (runs; the default target).
#
#   docker build --target operator -t coppice-operator:0.1.0 .
#   docker build --target pruner   -t coppice-pruner:0.1.0 .
#
# BASE is any image with Python 3.11 or later and its venv module; pin it by digest (python@sha256:...). RUNTIME is what the
# result stands on, for instance a distroless image with the same Python at the same path. Nothing but the pip steps needs
# a network; both architectures are built from this file as it is (--platform linux/amd64,linux/arm64).
# With `--timestamp` (buildah), or SOURCE_DATE_EPOCH and `rewrite-timestamp=true` (buildkit), two builds are the same.
ARG BASE=python:3.11-slim-bookworm
ARG RUNTIME=${BASE}

# What everybody needs: a virtual environment that later stages copy. Packages before code, so that a change of the code
# leaves the large layer as it is.
FROM ${BASE} AS environment
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt UV_LINK_MODE=copy UV_NO_PROGRESS=1
COPY requirements/bootstrap.txt /requirements/
RUN python3 -m venv --without-pip /opt/coppice \
 && python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-compile --require-hashes -r /requirements/bootstrap.txt

FROM environment AS operator-environment
COPY requirements/operator.txt /requirements/
# Bytecode by content, not by time: the same on every machine, and a read-only root starts as fast as any other.
RUN --mount=type=cache,id=coppice-uv,target=/root/.cache/uv \
    /opt/build/bin/uv pip sync --python /opt/coppice/bin/python --require-hashes /requirements/operator.txt \
 && /opt/coppice/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/coppice/lib

# The code itself, as a wheel unpacked beside the environment.
FROM environment AS code
COPY pyproject.toml README.md LICENSE /source/
COPY api /source/api
COPY cli /source/cli
COPY operator /source/operator
COPY pruner /source/pruner
RUN /opt/build/bin/uv build --wheel --no-build-isolation --python /opt/build/bin/python -o /wheels /source \
 && /opt/build/bin/pip --python /opt/coppice/bin/python install --no-compile --no-deps --no-index --target /opt/code /wheels/*.whl \
 && /opt/coppice/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/code

# What both images are run as.
FROM ${RUNTIME} AS runtime
ENV PATH=/opt/code/bin:/opt/coppice/bin:$PATH PYTHONPATH=/opt/code PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 USER=coppice
# By number, for runAsNonRoot; libraries ask for a name and there is no line for it in /etc/passwd.
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["coppice"]

FROM runtime AS operator
COPY --from=operator-environment /opt/coppice /opt/coppice
COPY --from=code /opt/code /opt/code
CMD ["operator"]
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=https://coppice.dev
LABEL org.opencontainers.image.title="coppice-operator" \
      org.opencontainers.image.description="Watches PruneJobs and ModelRollouts" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

# Here, after `operator`: a builder that makes every stage before its target brings no torch for that one.
FROM environment AS pruner-environment
COPY requirements/pruner.txt /requirements/
# Some packages bring files that are no Python of this version; installers pass over these too.
RUN --mount=type=cache,id=coppice-uv,target=/root/.cache/uv \
    /opt/build/bin/uv pip sync --python /opt/coppice/bin/python --require-hashes /requirements/pruner.txt \
 && { /opt/coppice/bin/python -m compileall -qq -j 0 --invalidation-mode unchecked-hash /opt/coppice/lib || true; }

FROM runtime AS pruner
COPY --from=pruner-environment /opt/coppice /opt/coppice
COPY --from=code /opt/code /opt/code
CMD ["pod"]
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=https://coppice.dev
LABEL org.opencontainers.image.title="coppice-pruner" \
      org.opencontainers.image.description="Runs one PruneJob: profiles, prunes, fine-tunes, measures" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
