#!/bin/sh
# Builds the artifact of the tag VERSION, and touches no host:
#   TARGETS="3.11-x86_64 …"   kinds of the hosts; without it those of INVENTORY are asked
#   NAME=harbour              of the service, with TARGETS; otherwise the inventory's app_name
#   REPOSITORY, SIGNERS       where the tag is, and the file of those who may sign it
#   OUTPUT                    folder of the artifact
#   FACTS                     file that gets its name and checksum, for the next job of a pipeline
set -eu

cd "$(dirname "$0")/../.."
absolute() {
    case $1 in
    /*) printf '%s\n' "$1" ;;
    *) printf '%s\n' "$PWD/$1" ;;
    esac
}

set --
if [ -n "${OUTPUT:-}" ]; then
    set -- "$@" "--output=$(absolute "$OUTPUT")"
fi
if [ -n "${FACTS:-}" ]; then
    set -- "$@" "--facts=$(absolute "$FACTS")"
fi
if [ -n "${TARGETS:-}" ]; then
    for target in $TARGETS; do
        set -- "$@" "--target=$target"
    done
    exec .venv/bin/python -m deploy.artifact build --checksum "--tag=$VERSION" \
        "--name=${NAME:-harbour}" "--repository=${REPOSITORY:-.}" \
        "--allowed-signers=${SIGNERS:-$INVENTORY/allowed_signers}" "$@"
fi

# Values go as JSON, so that none of them can become another variable.
json() {
    .venv/bin/python -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@"
}

options=$(json "$@")
set -- -e "{\"release\": \"$VERSION\", \"release_artifact_options\": $options,
    \"release_artifact\": \"\", \"release_artifact_sha256\": \"\"}"
if [ -n "${SIGNERS:-}" ]; then
    set -- "$@" -e "release_allowed_signers=$(absolute "$SIGNERS")"
fi
if [ -n "${REPOSITORY:-}" ]; then
    set -- "$@" -e "release_repository=$(absolute "$REPOSITORY")"
fi
exec ansible-playbook -i "$INVENTORY" deploy/artifact.yml "$@"
