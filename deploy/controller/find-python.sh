#!/bin/sh
# Prints the path of an interpreter that really runs and is new enough, or exits 1 without a word:
#   find-python.sh 3.12 [CANDIDATE…]    the newest one that the locked packages have wheels for,
#                                       or the first candidate that will do
# A command on the PATH may be a shim that fails, or lead to an older version than its name says, so
# that each candidate is started and asked.
set -eu

least=$1
shift

# The answer is the interpreter behind shims and virtual environments. Free-threaded builds and
# previews are left out, and so is what is newer than 3.14: not all packages have wheels for them.
question='
import os, ssl, sqlite3, sys, sysconfig

least = tuple(int(part) for part in sys.argv[1].split("."))
if not least <= sys.version_info[:2] <= (3, 14) or sys.version_info[3] != "final":
    sys.exit(1)
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    sys.exit(1)
print(os.path.realpath(sys.executable))
'

try() {
    "$1" -c "$question" "$least" 2>/dev/null </dev/null
}

on_path() {
    rest=$PATH:
    while [ -n "$rest" ]; do
        folder=${rest%%:*}
        rest=${rest#*:}
        if [ -n "$folder" ] && [ -x "$folder/$1" ] && try "$folder/$1"; then
            return 0
        fi
    done
    return 1
}

for candidate in "$@"; do
    if [ -x "$candidate" ] && try "$candidate"; then
        exit 0
    fi
done
for name in python3.14 python3.13 python3.12 python3.11 python3; do
    if on_path "$name"; then
        exit 0
    fi
done
versions=${PYENV_ROOT:-${HOME:-/nonexistent}/.pyenv}/versions
for interpreter in $(printf '%s\n' "$versions"/*/bin/python3 | sort -rV); do
    if [ -x "$interpreter" ] && try "$interpreter"; then
        exit 0
    fi
done
exit 1
