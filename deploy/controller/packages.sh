#!/bin/sh
# Installs the Debian packages that are missing on the controller, and starts nothing of them:
#   packages.sh lab         what boots hosts
#   packages.sh tests       what the tests start and ask
#   packages.sh bench       what puts a load on the service
#   packages.sh python      what a virtual environment of the distribution's Python needs
# Several names may be given.
set -eu

cd "$(dirname "$0")/../.."
log=.slipway/apt.log
policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.d/slipway.conf
lab="mmdebstrap systemd-container nftables iproute2 openssh-client openssl git pebble curl
    debian-archive-keyring"
tests="postgresql redis-server nginx-light nftables iproute2 systemd"
bench="wrk"
python="python3 python3-venv"

refuse() {
    printf '%s\n' "$*" >&2
    exit 1
}

missing_of() {
    for package in "$@"; do
        # Another package may give the same programs: nginx-full those of nginx-light.
        if [ "$package" = nginx-light ] && command -v nginx >/dev/null; then
            continue
        fi
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            printf '%s ' "$package"
        fi
    done
}

# While packages are installed no service may start, and no database cluster may come to be: this is
# somebody's machine, on which the tests start their own. What was there before stays.
hold_services() {
    trap release_services EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\n# Slipway installs packages: nothing starts meanwhile.\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    if [ ! -e ${cluster%/*} ]; then
        mkdir -p ${cluster%/*}
    fi
    printf 'create_main_cluster = false\n' >$cluster
}

release_services() {
    if grep -qs '^# Slipway installs packages' $policy; then
        rm -f $policy
    fi
    rm -f $cluster
    rmdir ${cluster%/*} ${cluster%/*/*} 2>/dev/null || true
}

apt() {
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -qq \
        -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 \
        "$@" </dev/null >>$log 2>&1
}

install_packages() {
    mkdir -p .slipway
    : >$log
    if ! ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1; then
        apt update || true
    fi
    apt install --yes --no-install-recommends "$@" && return
    # The lists may be older than the archive.
    apt update && apt install --yes --no-install-recommends "$@" && return
    tail -n 5 $log >&2
    refuse "apt-get could not install $*: $log has everything it said."
}

wanted=
for name in "$@"; do
    case $name in
    lab) wanted="$wanted $lab" ;;
    tests) wanted="$wanted $tests" ;;
    bench) wanted="$wanted $bench" ;;
    python) wanted="$wanted $python" ;;
    *) refuse "$name is no list of packages: choose from lab, tests, bench, python." ;;
    esac
done
# shellcheck disable=SC2046,SC2086
missing=$(missing_of $(printf '%s\n' $wanted | sort -u))
missing=${missing% }
if [ -z "$missing" ]; then
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    refuse "Packages are missing: run \`apt-get install $missing\` as root."
fi
printf 'Installing the packages %s\n' "$missing"
hold_services
# shellcheck disable=SC2086
install_packages $missing
