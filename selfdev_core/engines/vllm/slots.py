"""Where an engine can be: on some GPUs, on the CPU, or behind the URL of one that runs already."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from selfdev_core.engines.config import EngineConfig
from selfdev_core.engines.vllm.client import Client, EngineGone
from selfdev_core.engines.vllm.environment import check_version, python_of
from selfdev_core.engines.vllm.locks import Lock, locks_of
from selfdev_core.engines.vllm.process import Server, private_socket
from selfdev_core.engines.vllm.weights import Held
from selfdev_core.errors import EngineError


class Slot(Protocol):
    """A place for one engine. Used by one thread at a time; `end` by any."""

    @property
    def client(self) -> Client:
        """Of the engine that `hold` left here. Raises: EngineGone when it was ended meanwhile."""

    @property
    def salt(self) -> str: ...

    @property
    def device(self) -> str: ...

    def is_plain(self, folder: Path) -> bool:
        """Whether an engine is here that holds just this checkpoint."""

    def hold(self, folder: Path, weights: Path | None, note: Callable[[str], None]) -> None:
        """Have an engine here with these weights. Raises: EngineGone, Unproved, EngineError."""

    def end(self) -> None:
        """Let go of the engine: a process of ours is ended."""

    def close(self) -> None:
        """`end`, and have no engine here again."""


def slots_of(config: EngineConfig, scratch: Path, on_cpu: int = 1) -> list[Slot]:
    """One slot per engine of the configuration; `on_cpu` of them where it uses no GPU. Raises: EngineError when it names more
    GPUs than we may use."""
    if config.urls:
        return [Running(url, config, scratch) for url in config.urls]
    python, gpus, each = python_of(config), gpus_of(config), config.tensor_parallel
    config = config.model_copy(update={"gpus": len(gpus)})
    if not gpus:
        return [Own(python, config, scratch, "", f"cpu-{i}") for i in range(on_cpu)]
    parts = (",".join(gpus[i : i + each]) for i in range(0, len(gpus), each))
    return [Own(python, config, scratch, part, part) for part in parts]


def gpus_of(config: EngineConfig) -> list[str]:
    """The GPUs for these engines, as CUDA names them; none: the CPU. Raises: EngineError when more are asked than we may use."""
    named, each = os.environ.get("CUDA_VISIBLE_DEVICES"), config.tensor_parallel
    gpus = (
        [str(i) for i in range(_gpus_here())]
        if named is None
        else [one for one in named.split(",") if one not in ("", "-1")]
    )
    asked = len(gpus) // each * each if config.gpus is None else config.gpus
    if len(gpus) < asked:
        where = "this machine shows" if named is None else f"CUDA_VISIBLE_DEVICES={named} lets us see"
        raise EngineError(
            f"engine.gpus: {asked} asked, but {where} {len(gpus)}; lower it, leave it out, or name them in CUDA_VISIBLE_DEVICES"
        )
    return gpus[:asked]


def _gpus_here() -> int:
    """How many GPUs this machine shows, by the kernel's device files: the torch of this environment may be a CPU build."""
    return sum(path.name.removeprefix("nvidia").isdecimal() for path in Path("/dev").glob("nvidia[0-9]*"))


class Own:
    """An engine that we start, on these GPUs (none: on the CPU), when it is first needed. `name` tells it from the others."""

    def __init__(self, python: Path, config: EngineConfig, scratch: Path, gpus: str, name: str) -> None:
        self._python, self._config, self._scratch, self._gpus, self._name = python, config, scratch, gpus, name
        self._server: Server | None = None
        self._held: Held | None = None
        self._lock = threading.Lock()
        self._devices = locks_of(gpus.split(",")) if gpus else []
        self._closed = False

    @property
    def client(self) -> Client:
        server = self._server
        if server is None:
            raise EngineGone("the vLLM engine was ended")
        return server.client

    @property
    def salt(self) -> str:
        return self._held.salt if self._held else ""

    @property
    def device(self) -> str:
        return self._held.device if self._held else ""

    def is_plain(self, folder: Path) -> bool:
        return self._held is not None and self._held.is_plain(folder)

    def hold(self, folder: Path, weights: Path | None, note: Callable[[str], None]) -> None:
        if self._server is not None and not self._server.alive:
            self.end()
        if self._held is not None and (differs := self._held.differs(folder)):
            note(f"the vLLM engine starts again: {folder} has another {', '.join(differs)}")
            self.end()
        held = self._held or self._start(folder)
        held.hold(folder, weights)

    def _start(self, folder: Path) -> Held:
        for device in self._devices:
            device.take()
        label = f"engine-{os.getpid()}-{self._name}"
        with self._lock:  # so that `close` either sees the server or keeps it from being started
            if self._closed:
                raise EngineError("the campaign was stopped")
            server = Server(self._python, self._config, folder, private_socket(self._scratch), self._gpus, label)
            self._server = server
        server.wait()
        held = Held(server.client, folder, self._scratch)
        held.prove_new()
        self._held = held
        return held

    def end(self) -> None:
        with self._lock:
            server, self._server, self._held = self._server, None, None
        if server is not None:
            server.end()
        for device in self._devices:
            device.drop()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self.end()


class Running:
    """An engine that somebody else started; this campaign has it for itself as long as it runs."""

    def __init__(self, url: str, config: EngineConfig, scratch: Path) -> None:
        self._url, self._config, self._scratch = url, config, scratch
        self._client: Client | None = None
        self._held: Held | None = None
        self._mine = Lock(f"url-{hashlib.sha256(url.encode()).hexdigest()[:16]}", f"engine {url}")

    @property
    def client(self) -> Client:
        if self._client is None:
            raise EngineGone(f"the engine {self._url} was let go")
        return self._client

    @property
    def salt(self) -> str:
        return f"{os.getpid()} {self._held.salt}" if self._held else ""

    @property
    def device(self) -> str:
        return self._held.device if self._held else ""

    def is_plain(self, folder: Path) -> bool:
        return self._held is not None and self._held.is_plain(folder)

    def hold(self, folder: Path, weights: Path | None, note: Callable[[str], None]) -> None:
        if self._held is None:
            self._mine.take()
            client = self._client = Client(self._url, self._config.answer_seconds)
            check_version(client.version(), f"engine.urls: the engine at {self._url}")
            self._held = Held(client, client.checkpoint(), self._scratch)
        differs = self._held.differs(folder)
        if differs:
            raise EngineError(
                f"engine.urls: the engine at {self._url} runs another model than {folder} (another {', '.join(differs)}); start "
                "one for this model with `selfdev vllm start`, or leave urls out"
            )
        self._held.hold(folder, weights)
        if self._held.dtype != self._config.dtype:  # which is in the keys of what it answers
            raise EngineError(
                f"engine.urls: the engine at {self._url} computes in {self._held.dtype}, the campaign says engine.dtype: "
                f"{self._config.dtype}; write dtype: {self._held.dtype}, or start one with `selfdev vllm start --dtype "
                f"{self._config.dtype}`"
            )

    def end(self) -> None:
        client, self._client, self._held = self._client, None, None
        if client is not None:
            client.close()
        self._mine.drop()

    def close(self) -> None:
        self.end()
