"""Releases by `git push`: a bare repository that takes signed version tags and releases them.

`make push-host` sets it up on the machine that holds the kit, its inventory and its vault password;
docs/releasing-by-push.md tells how it is used. A key that may push can do nothing else there.
"""
