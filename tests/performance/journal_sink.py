"""Reads datagrams and forgets them, as cheaply as can be: python -m … PATH."""

import socket
import sys


def main(path: str) -> None:
    """Reads until somebody ends the process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sink:
        sink.bind(path)
        # One buffer for all records.
        record = bytearray(65536)
        while True:
            sink.recv_into(record)


if __name__ == "__main__":
    main(sys.argv[1])
