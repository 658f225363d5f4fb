#!/bin/sh
# Runs the service alone, reloading, on an SQLite file in the clone: develop.sh PORT
set -eu

cd "$(dirname "$0")/../.."
mkdir -p .slipway
export APP_ENVIRONMENT=development
.venv/bin/alembic upgrade head
exec .venv/bin/uvicorn --factory app.main:create_app --reload --reload-dir app \
    --host 127.0.0.1 --port "$1"
