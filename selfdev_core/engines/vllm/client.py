"""Talks to one vLLM server over HTTP, through its Unix socket or a port on loopback."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from selfdev_core.errors import EngineError
from selfdev_core.workers.generation import Generated

_MODEL, _AT_ONCE = "selfdev", 64
_LETTING_GO = 10.0  # seconds
KEY = "VLLM_API_KEY"  # vLLM's own name for it; only for engines that somebody else started behind a port


class EngineGone(EngineError):
    """The server does not answer: dead, or hung."""


class Tensors(NamedTuple):
    """Tensor name → sum, and → shape, of a folder's safetensors files."""

    sums: dict[str, int]
    shapes: dict[str, list[int]]


class Shares(NamedTuple):
    """Parameter name → sum, of each worker of an engine; what the workers' device calls itself."""

    sums: list[dict[str, int]]
    device: str


class Client:
    """One server. Raises everywhere: EngineGone when it does not answer, EngineError with its words when it refuses."""

    def __init__(self, url: str, patience: float) -> None:
        import httpx

        parts = urlsplit(url)
        sockets = parts.scheme == "unix"
        limits = httpx.Limits(
            max_connections=_AT_ONCE + 1, max_keepalive_connections=_AT_ONCE + 1
        )  # one to ask how it is
        key = os.environ.get(KEY)
        self.url = url
        self._http = httpx.Client(
            base_url="http://engine" if sockets else url,
            transport=httpx.HTTPTransport(uds=parts.path if sockets else None, limits=limits),
            headers={"Authorization": f"Bearer {key}"} if key and not sockets else {},
            timeout=httpx.Timeout(patience, connect=10.0, pool=patience),
            trust_env=False,
        )

    def ready(self) -> bool:
        """Whether it is up."""
        import httpx

        try:
            return self._http.get("/health", timeout=10.0).status_code == 200
        except (httpx.TransportError, RuntimeError):  # RuntimeError: closed meanwhile
            return False

    def listens(self) -> bool:
        """False when nobody listens any more, or the server says that its engine is dead; to be slow is no fault."""
        import httpx

        try:
            return self._http.get("/health", timeout=10.0).status_code != 503
        except httpx.ConnectError:
            return False
        except (httpx.TransportError, RuntimeError):
            return True

    def version(self) -> str:
        return str(self._get("/version")["version"])

    def checkpoint(self) -> Path:
        """Folder of the checkpoint that it was started with."""
        return Path(self._get("/v1/models")["data"][0]["root"])

    def complete(self, prompts: list[str], max_tokens: int, stop: tuple[str, ...], salt: str) -> list[Generated]:
        """Greedy continuations, in order. `salt`: of the prefix cache; prompts of another salt share nothing with these.

        A stop that is one token stops as that: a special token leaves no text that could be found.
        """
        tokens = [ids[0] for one in stop if len(ids := self._tokens(one)) == 1]
        return self._completions(prompts, max_tokens, salt, temperature=0.0, stop=list(stop), stop_token_ids=tokens)

    def sample(
        self, prompt: str, seeds: list[int], temperature: float, top_p: float, max_tokens: int, salt: str
    ) -> list[Generated]:
        """One continuation of the prompt per seed, in order."""

        def one(seed: int) -> Generated:
            return self._completions([prompt], max_tokens, salt, temperature=temperature, top_p=top_p, seed=seed)[0]

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return list(threads.map(one, seeds))

    def load(self, folder: Path) -> None:
        """Load the tensors of a folder's safetensors files in place of the running model's; the others stay as they are."""
        self._rpc("selfdev_load", folder=str(folder))

    def forget_prefixes(self) -> None:
        """Empty the prefix cache: it was computed with other weights."""
        deadline = time.monotonic() + _LETTING_GO
        while not self._post("/reset_prefix_cache", None)[
            "success"
        ]:  # a request that was just answered holds some of it
            if time.monotonic() > deadline:
                raise EngineGone(f"engine {self.url} does not let go of its prefix cache")
            time.sleep(0.01)

    def sums(self) -> Shares:
        """Of the parameters in use; see `inside/selfdev_in_vllm.py`."""
        given = self._rpc("selfdev_sums")
        return Shares([_whole(one["sums"]) for one in given], given[0]["device"])

    def sums_of(self, folder: Path) -> Tensors:
        """Of the tensors in a folder's safetensors files."""
        given = self._rpc("selfdev_sums_of", folder=str(folder))[0]
        return Tensors(_whole(given["sums"]), given["shapes"])

    def differs(self, own: Path, other: Path) -> list[str]:
        """Settings, not weights, in which two checkpoints differ."""
        return [str(name) for name in self._rpc("selfdev_differs", own=str(own), other=str(other))[0]["differs"]]

    def close(self) -> None:
        self._http.close()

    def _completions(self, prompts: list[str], max_tokens: int, salt: str, **sampling: Any) -> list[Generated]:
        body = {"model": _MODEL, "prompt": prompts, "max_tokens": max_tokens, "return_token_ids": True}
        choices = self._post("/v1/completions", body | {"cache_salt": salt} | sampling)["choices"]
        if sorted(choice["index"] for choice in choices) != list(range(len(prompts))):
            raise EngineGone(f"engine {self.url}: {len(prompts)} prompts, {len(choices)} answers")
        choices.sort(key=lambda choice: choice["index"])
        return [Generated(one["text"], len(one["token_ids"]), one["finish_reason"] == "stop") for one in choices]

    def _tokens(self, text: str) -> list[int]:
        """A text as the model's tokens."""
        body = {"model": _MODEL, "prompt": text, "add_special_tokens": False}
        given: list[int] = self._post("/tokenize", body)["tokens"]
        return given

    def _rpc(self, method: str, **arguments: str) -> list[Any]:
        given: list[Any] = self._post("/collective_rpc", {"method": method, "kwargs": arguments})["results"]
        return given

    def _get(self, path: str) -> Any:
        with self._answers():
            return self._checked(self._http.get(path))

    def _post(self, path: str, body: dict[str, Any] | None) -> Any:
        with self._answers():
            return self._checked(self._http.post(path, json=body))

    @contextmanager
    def _answers(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except (httpx.TransportError, RuntimeError) as error:  # RuntimeError: the client was closed meanwhile
            raise EngineGone(f"engine {self.url} does not answer ({type(error).__name__}: {error})") from error

    def _checked(self, response: Any) -> Any:
        if response.status_code != 200:
            said = f"engine {self.url} answered {response.status_code}: {_words(response)}"
            raise EngineGone(said) if response.status_code >= 500 and not self.ready() else EngineError(said)
        return response.json() if response.content else None


def _words(response: Any) -> str:
    """What the server says went wrong."""
    try:
        return str(response.json()["error"]["message"])[:1000]
    except (ValueError, KeyError, TypeError):
        return str(response.text)[:1000]


def _whole(sums: dict[str, str]) -> dict[str, int]:
    return {name: int(value) for name, value in sums.items()}
