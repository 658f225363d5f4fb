"""The demo: a local host from bare to serving a release of this repository, with one command."""
