"""Everything outside a sandbox that a hostile program must not reach: files, listeners, a process, secrets; and the watch
over all of it.

File modes are wide open on purpose: the sandbox has to hold, not the permissions of the files.
"""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from selfdev_core.sandbox.bundle import Bundle, write_bundle
from tests.security.hostile.model import Harm
from tests.security.victim import Victim

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

REPOSITORY = Path(__file__).resolve().parents[2]
SHAPES = {
    "model.layers.0.mlp.up_proj.weight": (16, 16),
    "model.layers.1.mlp.down_proj.weight": (16, 8),
    "model.norm.weight": (8,),
}
EXPERTS = ("alpha", "beta")


class Finding(NamedTuple):
    """One harm that was done, or "verdict" for a verdict that is not the right one."""

    harm: Harm | str
    what: str


class _Payload:
    """Unpickling it creates a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (self.path, "w"))


class World:
    """A folder of canaries, listeners on loopback, a victim process. `harms` says what was done since it was last asked."""

    def __init__(self) -> None:
        self.token = uuid.uuid4().hex[:8]
        self.secret = f"CANARY-{self.token}-{uuid.uuid4().hex[:24]}"
        self.proof = f"PROOF-{uuid.uuid4().hex[:16]}"
        self.folder = Path(tempfile.mkdtemp(prefix="selfdev-outside-"))
        self.folder.chmod(0o755)
        self.drop = self.folder / "drop"
        self.bundle = self._build()
        self.absent = {
            "absent_tmp": Path("/tmp") / f"escaped-{self.token}",
            "absent_shm": Path("/dev/shm") / f"escaped-{self.token}",
            "absent_repo": REPOSITORY / f"escaped-{self.token}",
        }
        self.victim = Victim(self.secret, self.drop.parent / "secret.txt")
        self.listeners = _listeners(self.folder, self.token)
        self._kept = self._contents()
        self._saved = {path: path.read_bytes() for path in self._kept if path.is_file()}
        self._own = _own_state()

    def close(self) -> None:
        self.victim.close()
        for listener in self.listeners.values():
            listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _build(self) -> Bundle:
        home = self.folder / "home"
        for folder in (self.drop, home / ".aws", self.folder / "listed" / self.secret):
            folder.mkdir(parents=True)
        self.drop.chmod(0o777)
        secrets = (self.folder / "secret.txt", self.folder / "private.txt", home / ".aws" / "credentials")
        for path in secrets:
            path.write_text(self.secret)
        secrets[1].chmod(0o600)
        (home / "planted_settings.py").write_text(f"KEY = {self.secret!r}\n")
        (home / "payload.pt").write_bytes(pickle.dumps(_Payload(str(self.drop / "unpickled"))))
        for name in ("canary.txt", "other"):
            (self.drop / name).write_text("0.5\n")
            (self.drop / name).chmod(0o666)
        return _bundle(self.folder / "probes.safetensors")

    def targets(self) -> dict[str, object]:
        """What programs are told: places, never a secret."""
        places = {name: str(path) for name, path in self.absent.items()}
        ports = {name: self.listeners[name].getsockname()[1] for name in ("tcp", "udp", "dns")}
        return {
            **places,
            **ports,
            "token": self.token,
            "proof": self.proof,
            "secret_file": str(self.folder / "secret.txt"),
            "private_file": str(self.folder / "private.txt"),
            "listed": str(self.folder / "listed"),
            "home": str(self.folder / "home"),
            "payload": str(self.folder / "home" / "payload.pt"),
            "repo": str(REPOSITORY),
            "drop": str(self.drop),
            "canary": str(self.drop / "canary.txt"),
            "bundle": str(self.bundle.path),
            "unix": str(self.folder / "stream"),
            "unix_datagram": str(self.folder / "datagram"),
            "abstract": f"escape-{self.token}",
            "victim": self.victim.pid,
            "victim_address": self.victim.address,
            "victim_fd": self.victim.fd,
            "parent": os.getpid(),
        }

    def source(self, template: str) -> str:
        return template.replace("@T@", repr(self.targets()))

    def secrets_in(self, tensors: Mapping[str, torch.Tensor], detail: str) -> list[Finding]:
        """Secrets that came out as the values of a tensor or in the words of a verdict."""
        carried = [detail.encode("utf-8", "replace")]
        for tensor in tensors.values():
            values = tensor.flatten().tolist()
            carried.append(bytes(int(v) if v == int(v) and 0 <= v < 256 else 0 for v in values))
        known: list[tuple[Harm, bytes]] = [("reads", self.secret.encode()), ("reaches", self.proof.encode())]
        known += [("reads", path.read_bytes()[:32]) for path in (Path("/etc/passwd"), REPOSITORY / "pyproject.toml")]
        return [
            Finding(harm, f"carries {secret.decode()!r} out")
            for harm, secret in known
            if any(secret in data for data in carried)
        ]

    def harms(self) -> list[Finding]:
        """What was done outside since the last call; canaries are put back."""
        found = [*self._file_harms(), *self._visits(), *self.victim.harms()]
        if (own := _own_state()) != self._own:
            changed = {key: value for key, value in own.items() if value != self._own[key]}
            found.append(Finding("touches", f"the test's own process is changed: {changed}"))
            self._own = own
        return found

    def _file_harms(self) -> list[Finding]:
        now = self._contents()
        changed = [path for path in {*now, *self._kept} if now.get(path) != self._kept.get(path)]
        for path in changed:
            with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
                if path not in self._kept or not path.is_file():
                    path.unlink() if not path.is_dir() or path.is_symlink() else shutil.rmtree(path)
        for path in changed:
            if path in self._saved:
                path.write_bytes(self._saved[path])
                path.chmod(self._kept[path][0] & 0o7777)
                with suppress(PermissionError):
                    os.chown(path, os.getuid(), os.getgid())
        self._kept = self._contents() if changed else self._kept
        strangers = [path for path in self.absent.values() if path.exists()]
        for path in strangers:
            path.unlink()
        folder = str(self.folder)
        return [Finding("writes", f"{str(p).removeprefix(folder)} is changed") for p in (*changed, *strangers)]

    def _contents(self) -> dict[Path, tuple[int, ...]]:
        """Everything below the folder with its mode, owner, links, size, time of change and content."""
        found: dict[Path, tuple[int, ...]] = {}
        for path in self.folder.rglob("*"):
            status = path.lstat()
            content = hash(path.read_bytes()) if path.is_file() and not path.is_symlink() else 0
            when = 0 if path.is_dir() else status.st_mtime_ns
            links = 0 if path.is_dir() else status.st_nlink
            found[path] = (status.st_mode, status.st_uid, links, status.st_size, when, content)
        return found

    def _visits(self) -> list[Finding]:
        found = []
        for name, listener in self.listeners.items():
            with suppress(BlockingIOError):
                while True:
                    if listener.type == socket.SOCK_STREAM:
                        listener.accept()[0].close()
                    else:
                        listener.recv(4096)
                    found.append(Finding("talks", f"reaches the {name} listener"))
        return found


def _listeners(folder: Path, token: str) -> dict[str, socket.socket]:
    inet, stream, packet = socket.AF_INET, socket.SOCK_STREAM, socket.SOCK_DGRAM
    wanted: dict[str, tuple[socket.AddressFamily, socket.SocketKind, object]] = {
        "tcp": (inet, stream, ("127.0.0.1", 0)),
        "udp": (inet, packet, ("127.0.0.1", 0)),
        "dns": (inet, packet, ("127.0.0.1", 0)),
        "unix": (socket.AF_UNIX, stream, str(folder / "stream")),
        "unix datagram": (socket.AF_UNIX, packet, str(folder / "datagram")),
        "abstract": (socket.AF_UNIX, stream, f"\0escape-{token}"),
    }
    made = {}
    for name, (family, kind, address) in wanted.items():
        made[name] = socket.socket(family, kind)
        made[name].bind(address)  # type: ignore[arg-type]
        if kind == stream:
            made[name].listen(16)
        made[name].setblocking(False)
    for name in ("stream", "datagram"):
        (folder / name).chmod(0o777)
    return made


def _own_state() -> dict[str, object]:
    """What another process could change about ours."""
    import resource

    limits = {n: resource.getrlimit(getattr(resource, n)) for n in ("RLIMIT_NOFILE", "RLIMIT_AS", "RLIMIT_FSIZE")}
    return {**limits, "folder": os.getcwd()}


def _bundle(path: Path) -> Bundle:
    import torch

    generator = torch.Generator().manual_seed(7)
    vectors = {
        name: {expert: 0.1 * torch.randn(shape, generator=generator) for expert in EXPERTS}
        for name, shape in SHAPES.items()
    }
    bundle = write_bundle(path, vectors, EXPERTS, blocks=2)
    path.chmod(0o666)
    return bundle
