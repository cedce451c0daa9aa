# flashgate as a container. The first stage installs what the lock names, the second holds only the result.
#
#   make image                                         # flashgate: the gateway, for production
#   docker build --target demo -t flashgate-demo .     # with the embedded store and the emulator
#   docker run --rm --read-only --tmpfs /tmp -p 8080:8080 flashgate-demo
#
# Runs as any user, without capabilities, on a read-only file system: only FLASHGATE_STATE_DIR is written to,
# and only where no store of yours is set. No secret takes part in the build.

# The digest is an index, so it holds for amd64 and arm64. Renew both parts together.
ARG PYTHON_IMAGE=docker.io/library/python:3.13.15-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
# The dependencies change seldom, so they are a layer of their own. Build packages stay in this stage.
COPY requirements.txt requirements-build.txt ./
RUN python -m pip install --quiet --require-hashes --only-binary=:all: -r requirements-build.txt \
    && python -m venv --without-pip /opt/flashgate \
    && python -m pip --python /opt/flashgate/bin/python install --quiet --no-compile \
        --require-hashes --only-binary=:all: -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY app app
# Byte code is compiled here because the file system is read-only where it runs; unchecked, so that no
# time stamp takes part and every build has the same files.
RUN python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
    && python -m pip --python /opt/flashgate/bin/python install --quiet --no-compile --no-deps /wheels/*.whl \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/flashgate/lib \
    && mkdir -m 0700 /state

FROM build AS build-demo
COPY requirements-run.txt ./
RUN python -m pip --python /opt/flashgate/bin/python install --quiet --no-compile \
        --require-hashes --only-binary=:all: -r requirements-run.txt \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/flashgate/lib

FROM ${PYTHON_IMAGE} AS gateway
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=""
LABEL org.opencontainers.image.title="flashgate" \
      org.opencontainers.image.description="The gateway in front of Gemini 3.1 Flash Image" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"
COPY --from=build /opt/flashgate /opt/flashgate
# The base comes without the standard library's byte code: what a start needs of it is compiled once, here.
RUN ["/opt/flashgate/bin/python", "-c", "import app.__main__, google.genai"]
ENV PATH=/opt/flashgate/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    FLASHGATE_HOST=0.0.0.0 \
    FLASHGATE_STATE_DIR=/tmp/flashgate \
    PORT=8080
# For a volume that keeps the embedded store: it takes over this folder's owner.
COPY --from=build --chown=65532:65532 /state /var/lib/flashgate
WORKDIR /
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
# Liveness checks only the process, so that an outage of the store restarts no gateway.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/livez', timeout=4)"]
ENTRYPOINT ["flashgate"]
CMD ["serve"]

# With the extras `embedded` and `emulator`, for one machine. The wheel of pillow-heif holds a library under the GPL,
# and anybody who distributes this image must comply with it; the gateway's own image holds none.
FROM gateway AS demo
COPY --from=build-demo /opt/flashgate /opt/flashgate

# The default target.
FROM gateway
