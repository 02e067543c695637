"""The bench in a terminal of its own."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

from bench import ROOT


def in_terminal(
    arguments: list[str], until: str = "", send: bytes = b"", rows: int = 24, columns: int = 80, program=("-m", "bench")
) -> tuple[str, int]:
    """(what the terminal was sent, exit code) of the bench; `send` is typed once `until` is to be seen."""
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
        time.sleep(0.3)  # until the size below is set
        os.execvpe(sys.executable, [sys.executable, *program, *arguments], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    seen, deadline = b"", time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 1)[0]:
                continue
            seen += os.read(terminal, 65536)
            if send and until.encode() in seen:
                os.write(terminal, send)
                send = b""
        os.kill(pid, signal.SIGKILL)  # a test that fails, and does not hang
    except OSError:  # its end
        pass
    return seen.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
