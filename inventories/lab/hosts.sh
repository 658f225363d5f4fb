#!/bin/sh
# The hosts of the running lab, as a dynamic inventory: `make lab-up` makes them.
set -eu
cd "$(dirname "$0")/../.."
exec .venv/bin/python -m deploy.lab inventory
