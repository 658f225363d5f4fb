"""The local lab: booted Debian and Ubuntu hosts on this machine, with a certificate authority.

Hosts are systemd-nspawn containers over a cached image, on a bridge of the lab's own. What is here
uses the standard library alone, so that a lab can be taken down when nothing else works.
"""
