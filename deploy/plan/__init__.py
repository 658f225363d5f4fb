"""What a release would do, told before it does anything: nothing here changes a host."""
