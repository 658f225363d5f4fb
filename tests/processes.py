"""What tests do with processes beside them: a port for one, its memory, a pause."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def counted() -> dict[str, str]:
    """Return what a process is given to count the branches it takes, where they are counted."""
    name = "COVERAGE_PROCESS_CONFIG"
    return {name: os.environ[name]} if name in os.environ else {}


def peak_memory(pid: int | str = "self") -> int:
    """Return the most memory that a process has had since `forget_peak`, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak(pid: int | str = "self") -> None:
    """Let the most memory that a process has had be what it has now."""
    # https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@contextlib.contextmanager
def stopped(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> Iterator[None]:
    """Freeze a server: it accepts connections and answers nothing."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)
