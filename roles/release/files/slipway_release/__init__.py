"""The host's side of a release: one program that unpacks, proves, switches and returns.

It uses the standard library alone and runs on Python 3.10 to 3.14, so that it works on every
supported distribution before anything of the service is installed.
"""
