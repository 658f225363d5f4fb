"""Work that is done after a request: asked for in its transaction, done by a worker."""
