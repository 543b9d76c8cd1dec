# The gateway in a container: nothing but Python and what requirements.lock pins, run by nobody in particular (65532) on
# a file system it cannot write. No step needs a shell, so tests/packaging/test_image.py can run each of them.

ARG PYTHON=docker.io/library/python:3.13-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /opt/src
COPY requirements.lock requirements-build.lock requirements-sbom.lock ./
RUN ["python3", "-m", "venv", "/opt/tools"]
RUN ["/opt/tools/bin/python", "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary=:all:", "-r", "requirements-build.lock"]
RUN ["/opt/tools/bin/python", "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary=:all:", "-r", "requirements-sbom.lock"]
# Without pip: what runs in production installs nothing.
RUN ["python3", "-m", "venv", "--without-pip", "/opt/wardgate"]
RUN ["/opt/tools/bin/python", "-m", "pip", "--python", "/opt/wardgate/bin/python", "install", "--quiet", "--compile", "--require-hashes", "--only-binary=:all:", "-r", "requirements.lock"]
COPY pyproject.toml README.md LICENSE ./
COPY policies policies
COPY gateway gateway
RUN ["/opt/tools/bin/python", "-m", "hatchling", "build", "-t", "wheel", "-d", "/opt/dist"]
RUN ["/opt/tools/bin/python", "-m", "pip", "--python", "/opt/wardgate/bin/python", "install", "--quiet", "--compile", "--no-deps", "--no-index", "--find-links", "/opt/dist", "wardgate"]
RUN ["/opt/tools/bin/cyclonedx-py", "environment", "--output-reproducible", "--output-format", "JSON", "--output-file", "/opt/wardgate/sbom.cdx.json", "/opt/wardgate/bin/python"]

FROM ${PYTHON}
LABEL org.opencontainers.image.title="wardgate" \
      org.opencontainers.image.description="The gateway through which AI agents use tools" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/wardgate /opt/wardgate
RUN ["install", "-d", "-o", "65532", "-g", "65532", "-m", "0700", "/var/lib/wardgate"]
ENV PATH=/opt/wardgate/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /etc/wardgate
VOLUME /var/lib/wardgate
EXPOSE 8700 8701
USER 65532:65532
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 CMD ["/opt/wardgate/bin/python", "-I", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8701/livez', timeout=4)"]
ENTRYPOINT ["/opt/wardgate/bin/wardgate"]
CMD ["serve", "--config", "/etc/wardgate/wardgate.yaml"]
