"""The parent of all processes: binds the sockets, starts the children, keeps them alive.

    parent ── control ×1     the API, the judge, the journal, the keys
           ├─ data worker ×N  one socketpair to control, one listening socket, the status page
           └─ lineage ×1      one socketpair to control

The parent holds no key and decides nothing. A dead worker or lineage process is replaced and
its new socket handed to control; a dead control ends everything that depended on it (the
others see the end of their channel) and the tree is started anew, a bounded number of times.
If the parent itself is killed, control sees the end of its channel and the rest follows.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.config import Settings, server_environment
from gateway.errors import ConfigError, Unavailable
from gateway.process import status_page
from gateway.process.channel import Channel, ChannelClosed
from gateway.process.directory import DirectoryLock, ServerFile
from gateway.process.spawn import Confinement, Launch, start
from gateway.process.unix_socket import bind_private

RESTARTS_MAX = 3
RESTART_WINDOW_SECONDS = 60.0
READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0  # of which 10 for segments on their way
_POLL_SECONDS = 0.1
_YOUNG_SECONDS = 10.0
_WAIT_SECONDS_MAX = 5.0
_BACKLOG = 512
_TRUSTED = Confinement(network=True, sandboxed=False, open_files_max=16384)

CONTROL, WORKER, LINEAGE = "gateway.api.control", "gateway.delivery.worker", "gateway.lineage.main"
Announce = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """The sockets the parent bound; they outlive a restart of the tree."""

    api: socket.socket
    admin: socket.socket
    data: tuple[socket.socket, ...]
    rings: tuple[socket.socket | None, ...] = ()  # of the data workers; None = not offered


@dataclass(slots=True)
class _Member:
    """One running child of the tree."""

    role: str
    process: subprocess.Popen[bytes]
    not_before: float  # monotonic seconds: when it may be replaced, should it die
    wait: float = 0.0  # seconds that were waited for it


@dataclass(slots=True)
class _Tree:
    """One life of the tree: from the start of control to its end."""

    settings: Settings
    listeners: Listeners
    lock: int  # descriptor every member inherits: see DirectoryLock
    page: int = field(default_factory=status_page.create)
    members: dict[str, _Member] = field(default_factory=dict)
    channel: Channel = field(init=False)  # to control: "ready", "stop", and its end
    handover: socket.socket = field(init=False)  # replaced links travel here as descriptors

    def start(self) -> None:
        """Start control with every link, then those at the other ends."""
        links = {role: socket.socketpair() for role in self._roles()}
        ours, theirs = socket.socketpair()
        handover, control_handover = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.channel, self.handover = Channel(ours), handover
        launch = Launch(
            module=CONTROL,
            confinement=_TRUSTED,
            options=self._options(),
            descriptors={
                "api": self.listeners.api.fileno(),
                "admin": self.listeners.admin.fileno(),
                "page": self.page,
                "handover": control_handover.fileno(),
                "lock": self.lock,
                **{role: pair[0].fileno() for role, pair in links.items()},
            },
            environment=server_environment(),
        )
        self._keep("control", start(launch, channel=theirs))
        theirs.close()
        control_handover.close()
        for role, (near, far) in links.items():
            self._start_member(role, far)
            near.close()

    def _roles(self) -> list[str]:
        return [*(f"worker-{n}" for n in range(len(self.listeners.data))), "lineage"]

    def _options(self) -> dict[str, Any]:
        rings = [
            None if sock is None else str(ring_path(self.settings, number))
            for number, sock in enumerate(self.listeners.rings)
        ]
        urls = self._data_urls()
        return {"settings": as_options(self.settings), "data_urls": urls, "rings": rings}

    def _data_urls(self) -> list[str]:
        scheme = "https" if self.settings.tls_cert else "http"
        return [f"{scheme}://{authority(self.settings, s)}" for s in self.listeners.data]

    def _start_member(self, role: str, channel: socket.socket) -> None:
        if role == "lineage":
            module, options, descriptors = LINEAGE, {}, {"page": self.page, "lock": self.lock}
        else:
            number = int(role.partition("-")[2])
            listening = self.listeners.data[number].fileno()
            module, options = WORKER, self._worker_options(number)
            descriptors = {"status": self.page, "listen": listening, "lock": self.lock}
            ring = self.listeners.rings[number]
            descriptors |= {} if ring is None else {"ring": ring.fileno()}
        launch = Launch(
            module=module, confinement=_TRUSTED, options=options, descriptors=descriptors
        )
        self._keep(role, start(launch, channel=channel))
        channel.close()

    def _worker_options(self, number: int) -> dict[str, Any]:
        tls = {"tls_cert": self.settings.tls_cert, "tls_key": self.settings.tls_key}
        return {"worker": number, **{name: str(path) for name, path in tls.items() if path}}

    def _keep(self, role: str, process: subprocess.Popen[bytes]) -> None:
        """Remember a member; one that dies young is replaced later and later."""
        now, older = time.monotonic(), self.members.get(role)
        wait = 0.0
        if older is not None and now - older.not_before < _YOUNG_SECONDS:
            wait = min(_WAIT_SECONDS_MAX, 2 * max(_POLL_SECONDS, older.wait))
        self.members[role] = _Member(role, process, now + wait, wait)

    def wait_ready(self) -> None:
        """Wait until control says it serves."""
        self.channel.socket.settimeout(READY_SECONDS_MAX)
        try:
            message = self.channel.receive()
        except (ChannelClosed, TimeoutError) as cause:
            raise Unavailable("the control process did not start", advice="see its log") from cause
        if message.kind == "refused":
            raise ConfigError(message.body["message"], advice=message.body.get("advice"))
        self.channel.socket.settimeout(None)

    def replace_dead(self) -> bool:
        """Replace dead workers and lineage; False when control itself is dead."""
        if self.members["control"].process.poll() is not None:
            return False
        for role, member in list(self.members.items()):
            if role == "control" or member.process.poll() is None:
                continue
            self._turn_away(role)
            if time.monotonic() >= member.not_before:
                near, far = socket.socketpair()
                self._start_member(role, far)
                with contextlib.suppress(OSError):
                    socket.send_fds(self.handover, [role.encode()], [near.fileno()])
                near.close()
        return True

    def _turn_away(self, role: str) -> None:
        """Close who waits for a dead worker: our sockets still let clients connect."""
        if role != "lineage":
            number = int(role.partition("-")[2])
            turn_away(self.listeners.data[number])
            ring = self.listeners.rings[number]
            if ring is not None:
                turn_away(ring)

    def stop(self) -> None:
        """Ask control to finish, then end everybody."""
        with contextlib.suppress(ChannelClosed):
            self.channel.send("stop")
        deadline = time.monotonic() + STOP_SECONDS_MAX
        for member in self.members.values():
            try:
                member.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()
        self.channel.close()
        self.handover.close()
        os.close(self.page)


def as_options(settings: Settings) -> dict[str, Any]:
    """The settings as JSON values (paths as text)."""
    values = {name: getattr(settings, name) for name in settings.__dataclass_fields__}
    return {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}


def from_options(options: dict[str, Any]) -> Settings:
    """Undo `as_options`."""
    fields = Settings.__dataclass_fields__
    values: dict[str, Any] = {
        name: Path(value) if value is not None and "Path" in str(fields[name].type) else value
        for name, value in options.items()
    }
    return Settings(**values)


def authority(settings: Settings, sock: socket.socket) -> str:
    """`host:port` under which clients reach a bound socket; never the wildcard address."""
    bound, port = sock.getsockname()[:2]
    host = settings.host or ("localhost" if bound in ("0.0.0.0", "::") else bound)  # noqa: S104
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def ring_path(settings: Settings, worker: int) -> Path:
    """Where a data worker's Unix socket is; no other state directory has the same."""
    tree = hashlib.sha256(os.fsencode(settings.state_dir.absolute())).hexdigest()[:12]
    return settings.runtime_dir / f"ring-{tree}-{worker}.sock"


def turn_away(listening: socket.socket) -> None:
    """Close the connections that wait on a socket which nobody serves."""
    for _ in range(_BACKLOG):  # whoever comes again and again does not hold us
        if not select.select([listening], [], [], 0)[0]:
            return
        with contextlib.suppress(OSError):
            listening.accept()[0].close()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError:
        try:
            sock.bind((host, 0))  # occupied: another one, and it is printed
        except OSError as cause:
            raise ConfigError(f"cannot listen on `{host}`: {cause.strerror}") from cause
    sock.listen(_BACKLOG)
    return sock


def bind(settings: Settings) -> Listeners:
    """Bind every socket of the tree; an occupied port is replaced by a free one."""
    workers = settings.data_workers or max(1, (os.cpu_count() or 2) - 1)
    rings = [ring_path(settings, number) for number in range(workers)]
    return Listeners(
        api=_bind(settings.bind, settings.port),
        admin=_bind("127.0.0.1", settings.admin_port),
        data=tuple(_bind(settings.bind, 0) for _ in range(workers)),
        rings=tuple(bind_private(path.parent, path.name) for path in rings),
    )


def serve(settings: Settings, announce: Announce) -> int:
    """Run the tree until SIGTERM or SIGINT.

    Args:
        settings: checked by bootstrap before (safe bind, key files).
        announce: called with `{"url", "admin_url", "data_urls", "pid", …}` once it serves, and
            with `{"restarted": reason}` when the tree was started anew, `{"stopped": reason}`
            when that did not help.

    Returns:
        The exit code: 0 after a signal, 1 when control kept dying.

    Raises:
        ConfigError: another tree uses the directory, or control refuses the state.
    """
    with DirectoryLock(settings.state_dir) as lock, contextlib.ExitStack() as stack:
        stopping = _StopSignal()
        listeners = bind(settings)
        for number in range(len(listeners.rings)):
            stack.callback(ring_path(settings, number).unlink, missing_ok=True)
        lives: list[float] = []
        while True:
            lives = [t for t in lives if time.monotonic() - t < RESTART_WINDOW_SECONDS]
            if len(lives) > RESTARTS_MAX:
                announce({"stopped": f"control died {len(lives)} times within a minute"})
                return 1
            lives.append(time.monotonic())
            tree = _Tree(settings, listeners, lock.members)
            tree.start()
            try:
                tree.wait_ready()
                stack.enter_context(_publish(settings, listeners, tree, announce))
                while not stopping.is_set and tree.replace_dead():
                    time.sleep(_POLL_SECONDS)
            except Unavailable:
                announce({"restarted": "control did not start"})
            finally:
                tree.stop()
            if stopping.is_set:
                return 0
            announce({"restarted": "control died"})


def _publish(
    settings: Settings, listeners: Listeners, tree: _Tree, announce: Announce
) -> ServerFile:
    scheme = "https" if settings.tls_cert else "http"
    facts = {
        "url": f"{scheme}://{authority(settings, listeners.api)}",
        "admin_url": f"http://127.0.0.1:{listeners.admin.getsockname()[1]}",
        "data_urls": tree._data_urls(),  # noqa: SLF001 - one module, one picture
        "pid": os.getpid(),
        "processes": {role: m.process.pid for role, m in tree.members.items()},
        "state_dir": str(settings.state_dir),
        **({"tls_ca": str(settings.tls_cert)} if settings.tls_auto else {}),
    }
    file = ServerFile(settings.runtime_dir, json.dumps(facts))
    announce(facts)
    return file


class _StopSignal:
    """Set by SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self.is_set = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self.is_set = True
