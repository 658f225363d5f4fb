"""What on-call does on a host, to accounts and to jobs that failed for good.

It is `python -m app.console`, there `slipway console`.

Every command that changes something is in the audit trail, with the user of the operating system
who gave it.
"""
