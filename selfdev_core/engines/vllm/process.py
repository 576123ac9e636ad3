"""A vLLM server as a process of ours: started on a private socket, ended with all that is under it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from selfdev_core.engines.config import EngineConfig
from selfdev_core.engines.vllm.client import Client
from selfdev_core.engines.vllm.environment import clean_environment
from selfdev_core.errors import ConfigError, EngineError
from selfdev_core.home import selfdev_home

_INSIDE = Path(__file__).parent / "inside"
_PRIVATE = "s"  # name of a socket in a folder of its own
_LOOK = 1.0  # seconds between two looks at a server
_GRACE = 5.0  # seconds to end in order, before it is killed
_LONGEST = 60  # characters of a folder's name: a socket's whole name has 107, and vLLM adds up to 40 for its own
# On the CPU vLLM puts its one worker into a process of its own, and the engine busily waits for it on a core that both need.
_ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
_ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "1",  # weights are swapped through its RPC; only we can reach the socket
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_MAX_COMPLETION_PROMPTS": "1024",
    "VLLM_MAX_STOP_STRINGS": "4",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def private_socket(scratch: Path) -> Path:
    """Name for a socket in a new folder that only this user can enter, below `scratch` when that is short enough."""
    place = scratch if len(str(scratch)) < _LONGEST else Path("/tmp")
    return Path(tempfile.mkdtemp(prefix="e-", dir=place)) / _PRIVATE  # mode 0700


def named_socket(name: str) -> Path:
    """Name for a socket in the home, in a folder that only this user can enter. Raises: ConfigError when that is too long."""
    folder = selfdev_home() / "vllm" / "sockets"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if len(str(folder)) > _LONGEST + 10:
        raise ConfigError(f"{folder}: too long a name for sockets; set SELFDEV_HOME to a folder with a shorter one")
    return folder / name


def arguments(config: EngineConfig, folder: Path, socket: Path) -> list[str]:
    """vLLM's own arguments for a checkpoint folder."""
    given = {
        "--model": str(folder),
        "--served-model-name": "selfdev",
        "--uds": str(socket),
        "--dtype": config.dtype,
        "--tensor-parallel-size": str(config.tensor_parallel),
        "--load-format": "safetensors",
        "--generation-config": "vllm",  # sampling is as the campaign says, not as a model's file suggests
        "--worker-extension-cls": "selfdev_in_vllm.Weights",
        "--gpu-memory-utilization": str(config.gpu_memory_utilization),
    }
    kv_cache = config.kv_cache_gb or (None if config.gpus else 1.0)
    if kv_cache is not None:
        given["--kv-cache-memory-bytes"] = str(int(kv_cache * 2**30))
    if config.max_model_len is not None:
        given["--max-model-len"] = str(config.max_model_len)
    if not config.gpus and config.tensor_parallel == 1:
        given["--distributed-executor-backend"] = _ONE_PROCESS
    flags = ["--disable-uvicorn-access-log", *([] if config.gpus else ["--enforce-eager"])]
    return [*(word for pair in given.items() for word in pair), *flags]


def environment(config: EngineConfig, sockets: Path, devices: str) -> dict[str, str]:
    """The server's environment. `devices`: the GPUs that it may see, as CUDA names them; empty: none, whatever we see."""
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "OMP_WAIT_POLICY": "PASSIVE"}
    own = {"PYTHONPATH": str(_INSIDE), "VLLM_RPC_BASE_PATH": str(sockets), "CUDA_VISIBLE_DEVICES": devices}
    return clean_environment() | _ENVIRONMENT | ({} if config.gpus else threads) | own


class Server:
    """One vLLM server, starting. Ended by `end`; when this process is gone, it ends itself.

    `socket`: where it will listen. `devices`: the GPUs that it may see, as in `environment`. `label` names its log.
    """

    def __init__(
        self, python: Path, config: EngineConfig, folder: Path, socket: Path, devices: str, label: str
    ) -> None:
        self.url = f"unix://{socket}"
        self.log = selfdev_home() / "vllm" / f"{label}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        start = [str(python), str(_INSIDE / "selfdev_in_vllm.py"), str(os.getpid())]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*start, *arguments(config, folder, socket)],
                env=environment(config, socket.parent, devices),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.client = Client(self.url, config.answer_seconds, whole=config.max_model_len is None)
        self.pid = self._process.pid
        self._folder, self._socket, self._patience = folder, socket, config.start_seconds

    def wait(self) -> None:
        """Until it is ready. Raises: EngineError with the end of the server's log when it dies first, or takes too long."""
        deadline = time.monotonic() + self._patience
        while not self.client.ready():
            if not self.alive or time.monotonic() > deadline:
                why = f"was not ready after {self._patience:g} s (engine.start_seconds)" if self.alive else "ended"
                self.end(failed=True)
                raise EngineError(
                    f"the vLLM engine for {self._folder} {why}; {self.log} ends with:\n{self._last_words()}"
                )
            time.sleep(0.1)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """End a server whose engine is dead: vLLM's own way out waits for the requests that the dead engine will never answer."""
        missed = 0
        while self.alive and missed < 2:
            time.sleep(_LOOK)
            missed = 0 if self.client.listens() else missed + 1
        with suppress(ProcessLookupError):
            if self.alive:
                os.killpg(self.pid, signal.SIGKILL)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self, failed: bool = False) -> None:
        """End the server and what is under it: in order if it can, else at once. The log of one that failed, or that had ended
        already, is left."""
        if self.alive and not failed:
            self.log.unlink(missing_ok=True)
        for deadly in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.pid, deadly)
            if deadly is signal.SIGTERM:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_GRACE)
        self._process.wait()
        self.client.close()  # last: a thread that waits for an answer has been told by now
        self._socket.unlink(missing_ok=True)
        if self._socket.name == _PRIVATE:
            shutil.rmtree(self._socket.parent, ignore_errors=True)

    def _last_words(self, lines: int = 15) -> str:
        try:
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"
