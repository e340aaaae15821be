FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 \
    PYTHONPATH=/tollgate:/tollgate/platform \
    TOLLGATE_ENV=production TOLLGATE_DATA_DIR=/data HOST=0.0.0.0 PORT=8084

WORKDIR /tollgate
# Requirements first: they change rarely, and this layer is then reused.
COPY requirements/redis.txt requirements/
RUN pip install --disable-pip-version-check --require-hashes -r requirements/redis.txt \
    && useradd --system --no-create-home tollgate \
    && install -d -o tollgate -g tollgate -m 700 /data

COPY manage.py LICENSE ./
COPY platform platform
COPY tenants tenants
COPY billing billing
COPY llm llm

USER tollgate
VOLUME /data
EXPOSE 8084
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health/live', timeout=2)"]
# exec form: the server itself is process 1 and gets SIGTERM.
CMD ["python", "manage.py", "serve"]
