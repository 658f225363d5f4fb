#!/bin/sh
# Refuses, before anything is touched, what could not work: one sentence each.
#   require.sh demo root debian clean       the first word is the target of make that asks
set -eu

cd "$(dirname "$0")/../.."
target=$1
shift

refuse() {
    printf '%s\n' "$*" >&2
    exit 1
}

for need in "$@"; do
    case $need in
    root)
        if [ "$(id -u)" != 0 ]; then
            refuse "\`make $target\` boots hosts and needs root: run it as root (sudo make $target)."
        fi
        ;;
    debian)
        if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
            refuse "\`make $target\` needs a Debian or Ubuntu machine: this one has no apt-get." \
                "Run it in a virtual machine with Debian."
        fi
        ;;
    clean)
        if ! git rev-parse --verify --quiet HEAD >/dev/null 2>&1; then
            refuse "\`make $target\` releases a commit, and this folder is no clone of a git" \
                "repository: clone it with git."
        fi
        changed=$(git status --porcelain --untracked-files=no | cut -c 4-)
        if [ -n "$changed" ]; then
            refuse "The clone has changes that no commit holds ($(printf '%s' "$changed" |
                head -n 3 | paste -sd ' ')): commit or stash them, because a release is made of commits."
        fi
        ;;
    version)
        # SemVer 2.0.0 without build metadata; grep judges each line, so there may be only one.
        number='(0|[1-9][0-9]*)' part='[0-9A-Za-z-]+'
        if ! printf '%s' "${VERSION:-}" | grep -Eqx "v$number(\\.$number){2}(-$part(\\.$part)*)?" ||
            [ "$(printf '%s' "$VERSION" | grep -c '')" != 1 ]; then
            refuse "Say which version: make $target VERSION=v1.4.2"
        fi
        ;;
    keys)
        if [ -z "${KEYS:-}" ]; then
            refuse "Say who may push: make $target KEYS=keys.pub, a file of public SSH keys with a" \
                "name each."
        fi
        ;;
    *) refuse "$need is nothing that can be required." ;;
    esac
done
