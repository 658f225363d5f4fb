"""A mixed load as visitors make it: `make load`."""
