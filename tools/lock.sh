#!/bin/sh
# Writes requirements.lock: every version for development, tests and images with its hashes, without index or address.
# Needs the virtual environment of `make venv`.
set -eu
cd "$(dirname "$0")/.."
{
  echo './client[arrow,http,pandas,polars]'
  echo './shared[amqp,models,postgres,redis,rpc,schema]'
  for service in services/*/; do echo "./${service%/}"; done
  echo './cli[local]'
} | uv pip compile --quiet --universal --python-version 3.11 --no-header --generate-hashes --annotation-style line \
  --no-emit-package etlpay-client --no-emit-package etlpay-shared --no-emit-package etlpay-api-gateway --no-emit-package etlpay-grpc-ingest \
  --no-emit-package etlpay-file-watcher --no-emit-package etlpay-queue-consumer --no-emit-package etlpay-processor \
  --no-emit-package etlpay-cli --group pyproject.toml:dev --output-file requirements.lock - "$@"
# The list of our own packages, which are not in it.
sed -i -e "/^#/d" -e "/^$/d" requirements.lock
