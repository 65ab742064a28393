# One file, one image per distribution: `docker build --build-arg SERVICE=services/processor --tag etlpay/processor .`
# SERVICE is the folder that holds its pyproject.toml.

FROM python:3.13-slim AS build
# A mirror of the package index, where the builder has one; it stays out of the image.
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/etlpay && python -m venv --without-pip /opt/builder
COPY requirements.lock docker/requirements.py ./
RUN python requirements.py --name hatchling > builder.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/builder/bin/python install --require-hashes --requirement builder.txt

# What comes from others has a layer of its own: a change of our code does not install it again.
ARG SERVICE
COPY client/pyproject.toml client/
COPY shared/pyproject.toml shared/
COPY ${SERVICE}/pyproject.toml ${SERVICE}/
RUN python requirements.py ${SERVICE} > requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/etlpay/bin/python install --require-hashes --requirement requirements.txt

COPY client/src client/src
COPY shared/src shared/src
COPY ${SERVICE}/src ${SERVICE}/src
RUN pip --python /opt/builder/bin/python wheel --no-deps --no-build-isolation --no-index --wheel-dir wheels \
    $(python requirements.py --folders ${SERVICE}) \
 && pip --python /opt/etlpay/bin/python install --no-deps --no-index wheels/*.whl


FROM python:3.13-slim
# Docker gives a fresh named volume the owner of the folder that it covers: /data is the watcher's, /secrets provision's,
# /plans that of the pipelines.
RUN groupadd --gid 10001 etlpay \
 && useradd --uid 10001 --gid etlpay --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin etlpay \
 && install --directory --owner=etlpay --group=etlpay --mode=0750 /data /plans \
 && install --directory --owner=etlpay --group=etlpay /secrets \
    /secrets/api-gateway /secrets/authority /secrets/file-watcher /secrets/grpc-ingest /secrets/migrate /secrets/operator \
    /secrets/pipelines /secrets/postgres /secrets/processor /secrets/queue-consumer /secrets/rabbitmq /secrets/redis
# The file system is read-only where this runs, so there is nowhere to put bytecode; pip has compiled it at install.
ENV PATH=/opt/etlpay/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1
# gRPC's own library would write what a peer says into the log, line feeds and all.
ENV GRPC_VERBOSITY=NONE
# The C library would keep for itself what large payloads were freed from: a third of the peak. Buffers of the size of
# one message stay in its heap, since mapping each anew costs more; what is larger goes back when it is freed.
ENV MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=720896 MALLOC_TRIM_THRESHOLD_=1048576
COPY --from=build /opt/etlpay /opt/etlpay
USER 10001:10001
# What to run is an importable name: `api_gateway`, `processor.migrate`, `etlpay_cli.provision /secrets`.
ENTRYPOINT ["python", "-m"]
