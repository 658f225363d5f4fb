"""The artifact of a release: a tag's tree and every wheel that its hosts install, in one file."""
