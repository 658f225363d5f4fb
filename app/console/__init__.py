"""What on-call does to accounts on a host: `python -m app.console`, there `slipway console`.

Every command that changes something is in the audit trail, with the user of the operating system
who gave it.
"""
