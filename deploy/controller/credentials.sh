#!/bin/sh
# Keeps what a pipeline was given in files that its user alone can read, outside of the clone:
#   credentials.sh keep FOLDER      writes those of the variables below that are set
#   credentials.sh remove FOLDER    takes them away again
# Each variable has the contents, or with _FILE after its name the path of a file with them:
#   SLIPWAY_ALLOWED_SIGNERS   who may sign tags
#   SLIPWAY_SSH_KEY           private key of the hosts' administrator, without a passphrase
#   SLIPWAY_KNOWN_HOSTS       public keys of the hosts, as in ~/.ssh/known_hosts
#   SLIPWAY_VAULT_PASSWORD    of the inventory
set -eu

names="allowed_signers ssh_key known_hosts vault_password"

refuse() {
    printf '%s\n' "$*" >&2
    exit 1
}

remove() {
    for name in $names; do
        rm -f "$folder/$name"
    done
    rmdir "$folder" 2>/dev/null || true
}

# `printf` is built into the shell: no process has a secret on its command line.
write() {
    eval "text=\${$2:-} file=\${$2_FILE:-}"
    # shellcheck disable=SC2154
    if [ -n "$file" ]; then
        [ -r "$file" ] || refuse "$2_FILE names $file, which cannot be read: give it the type File."
        text=$(cat "$file")
    fi
    # One line break at the end, as ssh wants it, however the text was pasted.
    text=$(printf '%s\n' "$text" | tr -d '\r')
    if [ -n "$text" ]; then
        printf '%s\n' "$text" >"$folder/$1"
        kept="$kept $1"
    fi
}

verb=${1:-}
folder=${2:-}
case $folder in
/*[!A-Za-z0-9_./-]*) refuse "The folder $folder has other characters than A-Za-z0-9_./- in it." ;;
/?*) ;;
*) refuse "Say where they are kept: CREDENTIALS=/a/folder outside of the clone." ;;
esac
case $verb in
keep) ;;
remove)
    remove
    exit 0
    ;;
*) refuse "$verb is nothing that is done with credentials: choose keep or remove." ;;
esac

umask 077
remove
mkdir -p "${folder%/*}"
mkdir "$folder" || refuse "$folder holds other things: name a folder that is there for nothing else."
trap remove EXIT
kept=
write allowed_signers SLIPWAY_ALLOWED_SIGNERS
write ssh_key SLIPWAY_SSH_KEY
write known_hosts SLIPWAY_KNOWN_HOSTS
write vault_password SLIPWAY_VAULT_PASSWORD
if [ -z "$kept" ]; then
    refuse "None of SLIPWAY_ALLOWED_SIGNERS, SLIPWAY_SSH_KEY, SLIPWAY_KNOWN_HOSTS and" \
        "SLIPWAY_VAULT_PASSWORD is set: see docs/pipelines.md."
fi
if [ -e "$folder/ssh_key" ]; then
    if ! ssh-keygen -y -P '' -f "$folder/ssh_key" >/dev/null 2>&1; then
        refuse "SLIPWAY_SSH_KEY is no private key without a passphrase: put the whole file into it."
    fi
    if [ ! -e "$folder/known_hosts" ]; then
        refuse "SLIPWAY_KNOWN_HOSTS is empty: without the hosts' public keys nobody can tell them" \
            "from others. Read them with ssh-keyscan over a network that you trust."
    fi
fi
trap - EXIT
printf 'Kept:%s\n' "$kept"
