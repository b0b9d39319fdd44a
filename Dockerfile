# Two images from one file:
#   docker build --target web .      slim, no torch: pages, API, predictions
#   docker build --target worker .   CUDA torch: training

# By digest: a tag may name another image tomorrow. A newer one: --build-arg PYTHON_IMAGE=...
ARG PYTHON_IMAGE=python:3.12.12-slim-trixie@sha256:f3fa41d74a768c2fce8016b98c191ae8c1bacd8f1152870a3f9f87d350920b7c

FROM ${PYTHON_IMAGE} AS base
ENV ORT_DISABLE_TELEMETRY=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1
WORKDIR /srv/xray

FROM base AS web-packages
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# Dependencies before code: a change of code does not install them again.
COPY requirements/web.txt requirements/
RUN pip install --require-hashes --requirement requirements/web.txt
COPY pyproject.toml README.md LICENSE ./
RUN mkdir app ml templates static && touch app/__init__.py ml/__init__.py \
    && pip install --no-deps --no-build-isolation --editable .

FROM web-packages AS worker-packages
COPY requirements/jobs.txt requirements/
RUN pip install --require-hashes --requirement requirements/jobs.txt

FROM base AS code
# pg_dump and pg_restore, for `xray backup`.
RUN apt-get update && apt-get install --yes --no-install-recommends postgresql-client \
    && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY ml ml
COPY templates templates
COPY static static
RUN useradd --system --uid 10001 xray && mkdir --mode 700 /var/lib/xray && chown xray /var/lib/xray
# Caches of libraries: the root file system may be read-only.
ENV PATH=/opt/venv/bin:$PATH XRAY_HOME=/var/lib/xray HOME=/tmp XDG_CACHE_HOME=/tmp/cache
VOLUME /var/lib/xray
USER xray

FROM code AS worker
COPY --from=worker-packages /opt/venv /opt/venv
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["xray", "worker-alive"]
CMD ["xray", "worker", "--queues", "gpu,cpu"]

FROM code AS web
COPY --from=web-packages /opt/venv /opt/venv
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
# Behind a proxy, which ends TLS: XRAY_TRUSTED_PROXIES names it.
CMD ["xray", "serve", "--host", "0.0.0.0", "--port", "8000"]
