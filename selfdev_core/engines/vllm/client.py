"""Talks to one vLLM server over HTTP, through its Unix socket or a port on loopback."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from selfdev_core.errors import EngineError
from selfdev_core.evaluation.decoding import cut_at
from selfdev_core.workers.generation import Generated

T = TypeVar("T")
Read = Callable[[Any], T]
"""Takes what is wanted out of a reply's JSON; it may stumble over one that is no vLLM engine's of ours."""
_MODEL, AT_ONCE = "selfdev", 256  # requests; as many sequences as vLLM computes together if nobody tells it otherwise
_PROMPTS, _STOPS = 1024, 4  # that vLLM takes in one request if nobody tells it otherwise (`process.py` sees to it)
_LETTING_GO = 10.0  # seconds
_FEW = 16  # tokens that a tokenizer may add to a prompt
KEY = "VLLM_API_KEY"  # vLLM's own name for it; only for engines that somebody else started behind a port


class EngineGone(EngineError):
    """The server does not answer: dead, or hung."""


class Tensors(NamedTuple):
    """Tensor name → sum, and → shape, of a folder's safetensors files."""

    sums: dict[str, int]
    shapes: dict[str, list[int]]


class Shares(NamedTuple):
    """Parameter name → sum, of each worker of an engine; what the workers' device calls itself; in which dtype they compute."""

    sums: list[dict[str, int]]
    device: str
    dtype: str


class Client:
    """One server. Raises everywhere: EngineGone when it does not answer, EngineError with its words when it refuses, or when what
    it says is not what an engine of ours would say.

    `whole`: the engine takes as many tokens as its model can.
    """

    def __init__(self, url: str, patience: float, whole: bool = False) -> None:
        import httpx

        parts = urlsplit(url)
        sockets = parts.scheme == "unix"
        limits = httpx.Limits(
            max_connections=AT_ONCE + 1, max_keepalive_connections=AT_ONCE + 1
        )  # one to ask how it is
        key = os.environ.get(KEY)
        self.url = url
        self._whole = whole
        self._lengths: dict[str, int] = {}  # of prompts, in tokens
        self._stops: dict[str, list[int]] = {}  # stop string → its tokens
        self._longest: int | None = None
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
        return self._get("/version", lambda said: str(said["version"]))

    def checkpoint(self) -> Path:
        """Folder of the checkpoint that it was started with."""
        return self._get("/v1/models", lambda said: Path(said["data"][0]["root"]))

    def complete(self, prompts: list[str], max_tokens: int, stop: tuple[str, ...], salt: str) -> list[Generated]:
        """Greedy continuations, in order. `salt`: of the prefix cache; prompts of another salt share nothing with these.

        A stop that is one token stops as that: a special token leaves no text that could be found.
        """
        self._check_length(prompts, max_tokens)
        for one in stop:
            if one not in self._stops:
                self._stops[one] = self._tokens(one, add_special_tokens=False)
        tokens = [self._stops[one][0] for one in stop if len(self._stops[one]) == 1]
        # Those that are single tokens are told as such besides; at those that find no room, an answer is cut when it is back.
        ordered = sorted(stop, key=lambda one: len(self._stops[one]) == 1)
        told, late = ordered[:_STOPS], ordered[_STOPS:]
        given: list[Generated] = []
        for at in range(0, len(prompts), _PROMPTS):
            some = prompts[at : at + _PROMPTS]
            given += self._completions(some, max_tokens, salt, temperature=0.0, stop=told, stop_token_ids=tokens)
        return [one._replace(text=cut_at(one.text, late)) for one in given]

    def sample(
        self, prompt: str, seeds: list[int], temperature: float, top_p: float, max_tokens: int, salt: str
    ) -> list[Generated]:
        """One continuation of the prompt per seed, in order; it ends where the model's own context ends."""
        if self._whole:
            max_tokens = max(1, min(max_tokens, self._most() - self._length(prompt)))
        self._check_length([prompt], max_tokens)

        def one(seed: int) -> Generated:
            return self._completions([prompt], max_tokens, salt, temperature=temperature, top_p=top_p, seed=seed)[0]

        with ThreadPoolExecutor(AT_ONCE) as threads:
            return list(threads.map(one, seeds))

    def load(self, folder: Path) -> None:
        """Load the tensors of a folder's safetensors files in place of the running model's; the others stay as they are."""
        self._rpc("selfdev_load", lambda _: None, folder=str(folder))

    def forget_prefixes(self) -> None:
        """Empty the prefix cache: it was computed with other weights."""
        deadline = time.monotonic() + _LETTING_GO
        # A request that was just answered holds some of it.
        while not self._post("/reset_prefix_cache", None, lambda said: bool(said["success"])):
            if time.monotonic() > deadline:
                raise EngineGone(f"engine {self.url} does not let go of its prefix cache")
            time.sleep(0.01)

    def sums(self) -> Shares:
        """Of the parameters in use; see `inside/selfdev_in_vllm.py`."""

        def read(given: list[Any]) -> Shares:
            return Shares([_whole(one["sums"]) for one in given], str(given[0]["device"]), str(given[0]["dtype"]))

        return self._rpc("selfdev_sums", read)

    def sums_of(self, folder: Path) -> Tensors:
        """Of the tensors in a folder's safetensors files."""

        def read(given: list[Any]) -> Tensors:
            return Tensors(_whole(given[0]["sums"]), dict(given[0]["shapes"]))

        return self._rpc("selfdev_sums_of", read, folder=str(folder))

    def differs(self, own: Path, other: Path) -> list[str]:
        """Settings, not weights, in which two checkpoints differ."""

        def read(given: list[Any]) -> list[str]:
            return [str(name) for name in given[0]["differs"]]

        return self._rpc("selfdev_differs", read, own=str(own), other=str(other))

    def close(self) -> None:
        self._http.close()

    def _completions(self, prompts: list[str], max_tokens: int, salt: str, **sampling: Any) -> list[Generated]:
        def read(said: Any) -> list[Generated]:
            choices = sorted(said["choices"], key=lambda choice: int(choice["index"]))
            if [choice["index"] for choice in choices] != list(range(len(prompts))):
                raise EngineGone(f"engine {self.url}: {len(prompts)} prompts, {len(choices)} answers")
            return [Generated(one["text"], len(one["token_ids"]), one["finish_reason"] == "stop") for one in choices]

        body = {"model": _MODEL, "prompt": prompts, "max_tokens": max_tokens, "return_token_ids": True}
        return self._post("/v1/completions", body | {"cache_salt": salt} | sampling, read)

    def _check_length(self, prompts: list[str], max_tokens: int) -> None:
        """Raises: EngineError when a prompt leaves no room for the longest answer: vLLM would end the answer where room ends."""
        most = self._most()
        for prompt in prompts:
            if len(prompt.encode("utf-8", "replace")) + _FEW + max_tokens <= most:
                continue  # a token is a byte at least
            if self._length(prompt) + max_tokens > most:
                raise EngineError(
                    f"engine {self.url}: a prompt of {self._length(prompt)} tokens and an answer of max_new_tokens "
                    f"{max_tokens} need more than the {most} that it takes; raise engine.max_model_len if the model "
                    "can do more, or lower max_new_tokens (questions, factory) or questions.shots"
                )

    def _most(self) -> int:
        """Tokens that the engine takes: a prompt with its answer."""
        if self._longest is None:
            self._longest = self._get("/v1/models", lambda said: int(said["data"][0]["max_model_len"]))
        return self._longest

    def _length(self, prompt: str) -> int:
        """A prompt's length in tokens."""
        if prompt not in self._lengths:
            self._lengths[prompt] = len(self._tokens(prompt))
        return self._lengths[prompt]

    def _tokens(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """A text as the model's tokens."""
        body = {"model": _MODEL, "prompt": text, "add_special_tokens": add_special_tokens}
        return self._post("/tokenize", body, lambda said: [int(token) for token in said["tokens"]])

    def _rpc(self, method: str, read: Callable[[list[Any]], T], **arguments: str) -> T:
        """Call a method of our worker extension; `read` gets what each worker returns."""
        return self._post(
            "/collective_rpc", {"method": method, "kwargs": arguments}, lambda said: read(said["results"])
        )

    def _get(self, path: str, read: Read[T]) -> T:
        return self._answered(lambda: self._http.get(path), read)

    def _post(self, path: str, body: dict[str, Any] | None, read: Read[T]) -> T:
        return self._answered(lambda: self._http.post(path, json=body), read)

    def _answered(self, ask: Callable[[], Any], read: Read[T]) -> T:
        import httpx

        try:
            response = ask()
        except (httpx.TransportError, RuntimeError) as error:  # RuntimeError: the client was closed meanwhile
            raise EngineGone(f"engine {self.url} does not answer ({type(error).__name__}: {error})") from error
        except httpx.HTTPError as error:
            raise self._foreign(error) from error
        if response.status_code != 200:
            said = f"engine {self.url} answered {response.status_code}: {_words(response)}"
            raise EngineGone(said) if response.status_code >= 500 and not self.ready() else EngineError(said)
        try:
            return read(response.json() if response.content else None)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._foreign(error) from error

    def _foreign(self, error: Exception) -> EngineError:
        return EngineError(
            f"engine {self.url} answers, but not as a vLLM engine with our worker extension does ({type(error).__name__}: "
            f"{str(error)[:200]}); `selfdev vllm start` starts one"
        )


def _words(response: Any) -> str:
    """What the server says went wrong."""
    try:
        return str(response.json()["error"]["message"])[:1000]
    except (ValueError, KeyError, TypeError):
        return str(response.text)[:1000]


def _whole(sums: dict[str, str]) -> dict[str, int]:
    return {name: int(value) for name, value in sums.items()}
