#!/bin/sh
# Makes the virtual environment .venv from uv.lock, and does nothing when it is already right:
#   environment.sh all      everything: the controller, the lint and the tests
#   environment.sh dev      only the service and what `make dev` needs
# Everything it makes stays in the clone. It honours the operator's PIP_INDEX_URL, pip.conf, UV_*,
# proxies and SSL_CERT_FILE.
set -eu

cd "$(dirname "$0")/../.."
root=$(pwd -P)
scope=${1:-all}
here=deploy/controller
# Ansible needs 3.12; the service alone runs on what the hosts have.
least=3.12
if [ "$scope" = dev ]; then
    least=3.11
fi

say() {
    printf '%s\n' "$*"
}

refuse() {
    printf '%s\n' "$*" >&2
    exit 1
}

fingerprint() {
    # A virtual environment does not survive a move of its clone, so the path is a part of it.
    { printf '%s\n' "$root" "$1"; cat uv.lock pyproject.toml; } | sha256sum | cut -d ' ' -f 1
}

is_done() {
    [ "$(cat ".venv/.slipway-$1" 2>/dev/null)" = "$(fingerprint "$1")" ] &&
        .venv/bin/python -c '' 2>/dev/null
}

# The version in uv.lock with the hashes of its files, as a requirements file of pip.
pin_of_uv() {
    awk '
        /^\[\[package\]\]/ { inside = 0 }
        /^name = "uv"$/ { inside = 1 }
        inside && /^version = / { gsub(/"/, "", $3); line = "uv==" $3 }
        inside && match($0, /sha256:[0-9a-f]+/) {
            line = line " --hash=" substr($0, RSTART, RLENGTH)
        }
        END { print line }
    ' uv.lock
}

has_venv() {
    "$starter" -c 'import ensurepip, venv' 2>/dev/null
}

bootstrap_uv() {
    mkdir -p .slipway
    pin_of_uv >.slipway/uv.txt
    if [ -x .slipway/uv/bin/uv ] && cmp -s .slipway/uv.txt .slipway/uv/pin.txt; then
        return
    fi
    say "Installing $(cut -d ' ' -f 1 .slipway/uv.txt) into .slipway/uv"
    rm -rf .slipway/uv
    starter=$($here/find-python.sh 3.8) || refuse "Slipway needs a Python to start with:" \
        "install one, for example with \`apt-get install python3 python3-venv\`, and try again."
    set -- install --quiet --disable-pip-version-check --no-cache-dir --require-hashes \
        --only-binary :all: -r .slipway/uv.txt
    if ! has_venv && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        $here/packages.sh python
        starter=$($here/find-python.sh 3.8)
    fi
    if has_venv; then
        "$starter" -m venv .slipway/uv
        .slipway/uv/bin/python -m pip "$@" </dev/null || fail_uv
    elif "$starter" -m pip --version >/dev/null 2>&1; then
        "$starter" -m pip "$@" --target .slipway/uv </dev/null || fail_uv
    else
        refuse "$starter has neither venv nor pip: run \`apt-get install python3-venv\` as root" \
            "and try again."
    fi
    cp .slipway/uv.txt .slipway/uv/pin.txt
}

fail_uv() {
    rm -rf .slipway/uv
    refuse "uv could not be installed from the package index: check the network, PIP_INDEX_URL," \
        "the proxy settings and SSL_CERT_FILE, and try again."
}

# uv reads neither the settings of pip nor, by itself, the authorities that were added to the system.
prepare_uv() {
    unset VIRTUAL_ENV UV_PYTHON PYTHONHOME PYTHONPATH
    export UV_PROJECT_ENVIRONMENT="$root/.venv"
    export UV_CACHE_DIR="${UV_CACHE_DIR:-$root/.slipway/cache/uv}"
    export UV_PYTHON_INSTALL_DIR="${UV_PYTHON_INSTALL_DIR:-$root/.slipway/python}"
    # uv leaves its lock files in the temporary folder.
    mkdir -p .slipway/tmp
    export TMPDIR="$root/.slipway/tmp"
    if [ -z "${SSL_CERT_FILE:-}" ] && [ -n "${PIP_CERT:-${REQUESTS_CA_BUNDLE:-}}" ]; then
        export SSL_CERT_FILE="${PIP_CERT:-$REQUESTS_CA_BUNDLE}"
    fi
    export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"
    if [ -z "${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-}}" ]; then
        index=${PIP_INDEX_URL:-$(index_of_pip)}
        if [ -n "$index" ]; then
            export UV_DEFAULT_INDEX="$index"
        fi
    fi
}

index_of_pip() {
    for pip in .slipway/uv/bin/python "${starter:-python3}"; do
        for key in install.index-url global.index-url; do
            "$pip" -m pip config get "$key" 2>/dev/null && return
        done
    done
    true
}

find_python() {
    # One that was chosen before stays, so that an environment does not change under its user.
    $here/find-python.sh "$least" .venv/bin/python && return
    say "No Python $least or newer runs here: uv downloads one into the clone." >&2
    .slipway/uv/bin/uv python install --no-progress --no-bin 3.13 </dev/null >&2 &&
        .slipway/uv/bin/uv python find --managed-python 3.13 </dev/null && return
    refuse "Python $least or newer is needed, none runs here and uv could not download one:" \
        "install it (for example \`pyenv install 3.13\`), or name a mirror in" \
        "UV_PYTHON_INSTALL_MIRROR, and try again."
}

synchronise() {
    groups=--all-groups
    if [ "$scope" = dev ]; then
        groups="--no-default-groups --group dev"
    fi
    if [ -z "${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-}}" ]; then
        # shellcheck disable=SC2086
        .slipway/uv/bin/uv sync --quiet --frozen $groups --python "$1" </dev/null
        return
    fi
    # The lock names files of the public index, which `uv sync` asks for whatever index is set; the
    # exported list with the same hashes is taken from the operator's own.
    # shellcheck disable=SC2086
    .slipway/uv/bin/uv export --quiet --frozen $groups --output-file .slipway/locked.txt \
        >/dev/null </dev/null &&
        .slipway/uv/bin/uv venv --quiet --clear --python "$1" .venv </dev/null &&
        .slipway/uv/bin/uv pip sync --quiet --require-hashes --python .venv/bin/python \
            .slipway/locked.txt </dev/null
}

case $scope in
all | dev) ;;
*) refuse "$scope is no scope: choose all or dev." ;;
esac
# A complete environment serves `make dev` as well.
if is_done all || is_done "$scope"; then
    exit 0
fi
bootstrap_uv
prepare_uv
python=$(find_python)
say "Installing the locked packages into .venv for $("$python" -V)"
rm -f .venv/.slipway-all .venv/.slipway-dev
synchronise "$python" || refuse "The locked packages could not be installed: the lines above say why."
fingerprint "$scope" >".venv/.slipway-$scope"
