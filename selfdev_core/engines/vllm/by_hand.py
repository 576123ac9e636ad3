"""An engine that a person starts, for campaigns that name it in `engine.urls`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from selfdev_core.engines.choose import dtype_of
from selfdev_core.engines.config import EngineConfig
from selfdev_core.engines.vllm.environment import check_environment, python_of
from selfdev_core.engines.vllm.locks import locks_of
from selfdev_core.engines.vllm.process import Server, named_socket
from selfdev_core.engines.vllm.slots import gpus_of
from selfdev_core.errors import ConfigError, EngineError
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.resources import ResourcesConfig

_LOOK = 1.0  # seconds between two looks at it


def run_engine(config: EngineConfig, model: Path, name: str, ready: Callable[[str, str], None]) -> None:
    """Run one engine until this process is told to stop; `ready` gets its URL and its dtype. Meanwhile no campaign starts one on
    its GPUs.

    Raises: ConfigError or CheckpointError when it cannot be; EngineError when its GPUs are in use or not there, or it dies.
    """
    check_environment(config)
    folder = Checkpoint(model.resolve()).folder
    socket = named_socket(name)
    if socket.exists():
        from selfdev_core.engines.vllm.client import Client

        if Client(f"unix://{socket}", 10.0).ready():
            raise ConfigError(f"an engine runs at unix://{socket} already; give this one another --name")
        socket.unlink()
    gpus, server = gpus_of(config)[: config.tensor_parallel], None  # one engine's, however many the machine has
    config = config.model_copy(update={"gpus": len(gpus)})
    config = config.model_copy(update={"dtype": dtype_of(config, ResourcesConfig())})
    locks = locks_of(gpus)
    try:
        for lock in locks:
            lock.take()
        server = Server(python_of(config), config, folder, socket, ",".join(gpus), f"by-hand-{name}")
        server.wait()
        ready(server.url, config.dtype)
        while server.alive:
            time.sleep(_LOOK)
        raise EngineError(f"the engine ended; {server.log} may say why")
    finally:
        if server is not None:
            server.end()
        for lock in locks:
            lock.drop()
