"""What `make` does on the machine that operates: its set-up and its checks."""
