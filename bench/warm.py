"""One start for many runs: a process that has imported what runs need, and forks a child for each of them.

Importing torch and Opacus takes about as long as a short run trains. So a pipeline on one machine sets VARIABLE to the
process id of its driver. The first verb that finds it starts a server, and every verb, that one included, is a child that
the server forks: with the arguments, environment, working directory and outputs of the command that asked, which forwards
signals and ends with the child's exit code. Nothing else differs, and where no server can be had the command does its work
itself. The server ends with the driver; one that was started from other sources is not asked.

No torch in here until the server needs it: a command that asks is to start in a moment.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import ROOT
from bench.evidence import live

VARIABLE = "BENCH_WARM"
VERBS = ("dataset", "calibrate", "train")
SERVE = "serve-warm"  # the server's own verb, which no user needs
STARTING = 60  # seconds that a command waits for a server that is importing
POLL = 1.0  # seconds between two looks at whether the driver lives
LONGEST = 100  # characters of a socket's path; systems allow 104 to 108
LOG = Path("results/logs/warm.log")


def ask(arguments: list[str]) -> int | None:
    """Exit code of the verb that `arguments` name, run by the server; None where there is none to ask."""
    driver = os.environ.get(VARIABLE)
    if not driver or not arguments or arguments[0] not in VERBS or not hasattr(socket, "send_fds"):
        return None
    try:
        connection = _connect(_address(driver), driver)
        request = {"arguments": arguments, "folder": os.getcwd(), "environment": {**os.environ, VARIABLE: ""}}
        content = json.dumps(request).encode()
        socket.send_fds(connection, [len(content).to_bytes(8, "big")], [1, 2])
        connection.sendall(content)
        child = int.from_bytes(_receive(connection, 8), "big")
    except (OSError, EOFError):
        return None
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os.kill(child, number))
    try:
        code = int.from_bytes(_receive(connection, 8), "big", signed=True)
    except (OSError, EOFError):  # the server was killed: its child goes on, and nobody will know how it ends
        print(f"the process that trained this run was stopped; see {LOG}", file=sys.stderr)
        return 1
    if code < 0:
        print(f"ended by signal {-code} ({signal.Signals(-code).name})", file=sys.stderr)
        return 128 - code
    return code


def _address(driver: str) -> Path:
    """The server's socket, with a digest of sources and interpreter in its name."""
    sources = hashlib.sha256(f"{ROOT} {sys.prefix}".encode())
    for path in sorted((ROOT / "bench").rglob("*.py")):
        sources.update(path.read_bytes())
    name = f"scalenorm-bench-{os.getuid()}/warm-{driver}-{sources.hexdigest()[:12]}.sock"
    folder = Path(tempfile.gettempdir())
    if len(f"{folder}/{name}") > LONGEST:
        folder = Path("/tmp")
    folder = (folder / name).parent
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    return folder / Path(name).name


def _connect(address: Path, driver: str) -> socket.socket:
    """A connection to the server, which is started where there is none."""
    with address.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one of many commands at once starts it
        with contextlib.suppress(OSError):
            return _dial(address)
        LOG.parent.mkdir(parents=True, exist_ok=True)
        with LOG.open("ab") as log:
            command = [sys.executable, "-m", "bench", SERVE, str(address), driver]
            server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + STARTING
        while server.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                return _dial(address)
            time.sleep(0.01)
    raise ConnectionError("no server")


def _dial(address: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(address))
    except OSError:
        connection.close()
        raise
    return connection


def _receive(connection: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        part = connection.recv(count - len(content))
        if not part:
            raise EOFError
        content += part
    return content


class Server:
    """Forks a child for every request on the socket at `address`, until process `driver` is gone and no child is left."""

    def __init__(self, address: Path, driver: int, main: Callable[[list[str]], int]):
        self.address, self.driver, self.main = address, driver, main
        self.children: dict[int, socket.socket] = {}  # process id -> who asked for it
        self.selector = selectors.DefaultSelector()
        address.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(address))
        self.listener.listen(128)
        self.selector.register(self.listener, selectors.EVENT_READ)
        # a child's end wakes the selector
        self.woken, waker = socket.socketpair()
        for end in (self.woken, waker):
            end.setblocking(False)
        self.waker = waker
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker.fileno())
        self.selector.register(self.woken, selectors.EVENT_READ)

    def run(self) -> None:
        while self.children or live.exists(self.driver):
            for key, _ in self.selector.select(POLL):
                if key.fileobj is self.listener:
                    self._accept()
                elif key.fileobj is self.woken:
                    with contextlib.suppress(BlockingIOError):
                        self.woken.recv(4096)
                else:
                    self._lost(key.fileobj)
            self._reap()
        for path in (self.address, self.address.with_suffix(".lock")):
            path.unlink(missing_ok=True)

    def _accept(self) -> None:
        connection, _ = self.listener.accept()
        try:
            size, outputs, _, _ = socket.recv_fds(connection, 8, 2)
            request = json.loads(_receive(connection, int.from_bytes(size, "big")))
        except (OSError, EOFError, ValueError):  # who asked has gone
            connection.close()
            return
        os.chdir(request["folder"])
        _prepare(request["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            connection.close()  # who asked is to notice when the server ends
            self._become(request, outputs)
        for output in outputs:
            os.close(output)
        with contextlib.suppress(OSError):
            connection.sendall(child.to_bytes(8, "big"))
        self.children[child] = connection
        self.selector.register(connection, selectors.EVENT_READ)

    def _become(self, request: dict, outputs: list[int]) -> None:
        """What a child does: the command, as if it had been started by itself."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.selector.close()
            for end in (self.listener, self.woken, self.waker, *self.children.values()):
                end.close()
            for number, output in zip((1, 2), outputs, strict=True):
                os.dup2(output, number)
                os.close(output)
            # streams that know what they write to now, a pipe perhaps where the server has a file
            sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
            os.environ.clear()
            os.environ.update(request["environment"])
            code = self.main(request["arguments"])
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _lost(self, connection: socket.socket) -> None:
        """Who asked was killed: so its child saves its state and ends."""
        self.selector.unregister(connection)
        for child, asked in self.children.items():
            if asked is connection:
                os.kill(child, signal.SIGTERM)

    def _reap(self) -> None:
        while self.children:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                return
            connection = self.children.pop(child)
            with contextlib.suppress(KeyError):
                self.selector.unregister(connection)
            with contextlib.suppress(OSError):
                connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(8, "big", signed=True))
            connection.close()


def _prepare(arguments: list[str]) -> None:
    """Computes what many children would compute anew: the ledger of a run, whose PLD takes longer than its start.

    A run whose arguments make no sense fails in its child, where its user sees it.
    """
    from bench.dp import accounting
    from bench.plan.spec import Run

    with contextlib.suppress(Exception):
        options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
        recipe, noise = Run.from_json(options["--run-json"]).recipe, json.loads(Path(options["--noise"]).read_text())
        accounting.ledger(noise["noise_multiplier"], noise["sample_rate"], recipe["steps"], recipe["delta"])


def serve(address: str, driver: str, main: Callable[[list[str]], int]) -> None:
    """What `python -m bench` does under the verb SERVE; `main` runs the verb of some arguments and returns its exit code."""
    server = Server(Path(address), int(driver), main)  # commands queue up at the socket while this imports
    import torch
    import torch._dynamo  # which the first optimiser would import

    torch.set_num_threads(1)  # a child inherits no threads, and must not believe that it has any
    from bench.training import runner  # noqa: F401

    server.run()
