# docker build -t ssmtunneld .
# docker run --rm -v ./config.toml:/etc/ssmtunneld/config.toml:ro -p 127.0.0.1:5432:5432 ssmtunneld
#
# docs/containers.md says what a configuration needs in a container.
ARG PYTHON=3.13
# A tag can be moved: --build-arg DIGEST=@sha256:... takes the one image that you have checked.
ARG DIGEST=

FROM python:${PYTHON}-slim-bookworm${DIGEST} AS build
WORKDIR /source
COPY packaging/locks/runtime.txt ./
RUN python -m venv /opt/ssmtunneld \
 && /opt/ssmtunneld/bin/python -m pip install --no-cache-dir --no-deps --require-hashes \
    --only-binary :all: -r runtime.txt
COPY pyproject.toml hatch_build.py README.md LICENSE config.example.toml ./
COPY ssmtunneld ssmtunneld
RUN /opt/ssmtunneld/bin/python -m pip install --no-cache-dir --no-deps . \
 && /opt/ssmtunneld/bin/python -m pip uninstall --yes pip

FROM python:${PYTHON}-slim-bookworm${DIGEST}
LABEL org.opencontainers.image.title="ssmtunneld" \
      org.opencontainers.image.description="Port forwarding through AWS Session Manager" \
      org.opencontainers.image.source="https://github.com/ssmtunneld/ssmtunneld" \
      org.opencontainers.image.documentation="https://github.com/ssmtunneld/ssmtunneld/blob/main/docs/containers.md" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number, because Kubernetes cannot tell from a name that it is not root's. What the
# daemon writes (its lock, its control socket, refreshed logins) is in /run/ssmtunneld:
# the rest of the file system may be read-only.
RUN install -d -o 65532 -g 65532 -m 0700 /run/ssmtunneld \
 && install -d -m 0755 /etc/ssmtunneld
COPY --from=build /opt/ssmtunneld /opt/ssmtunneld
ENV PATH=/opt/ssmtunneld/bin:$PATH \
    HOME=/run/ssmtunneld \
    STATE_DIRECTORY=/run/ssmtunneld \
    PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 9300
# The configuration says http_listen = "127.0.0.1:9300", or "0.0.0.0:9300". There is no curl
# in here, and none is needed.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
  CMD ["/opt/ssmtunneld/bin/python", "-c", "from http.client import HTTPConnection as H; c = H('127.0.0.1', 9300, timeout=4); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["ssmtunneld"]
CMD ["run", "--config", "/etc/ssmtunneld/config.toml"]
