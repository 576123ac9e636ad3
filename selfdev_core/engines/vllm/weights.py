"""Which weights an engine holds, how others come into it, and the proof that they did."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from selfdev_core.engines.vllm.client import Client, EngineGone, Tensors
from selfdev_core.engines.vllm.proof import faults, total_of
from selfdev_core.errors import EngineError
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.scope import aliases


class Unproved(EngineError):
    """The engine does not hold the weights that it was given."""


class Held:
    """The weights of one engine: a checkpoint, perhaps with merged tensors in place of its own.

    They are put in place by vLLM's own reload, tensor by tensor into the memory that is in use; what is not in the file stays.
    """

    def __init__(self, client: Client, started_with: Path, scratch: Path) -> None:
        self._client, self._scratch = client, scratch
        self._started_with = started_with  # whose settings it has, whatever weights it holds later
        self._checkpoint: Path | None = None
        self._own = Tensors({}, {})  # the checkpoint's
        self._replaced: set[str] = set()  # names of tensors that stand in place of the checkpoint's
        self._from: tuple[object, ...] = ()  # the file that they came from, when they are proved
        self._changes = 0
        self.device = self.dtype = ""  # known once weights are proved

    @property
    def salt(self) -> str:
        """Of the prefix cache: another one after every change of weights, so that no prefix of other weights is ever used."""
        return f"weights {self._changes}"

    def is_plain(self, checkpoint: Path) -> bool:
        """Whether the engine holds just this checkpoint."""
        return self._checkpoint == checkpoint and not self._replaced

    def differs(self, checkpoint: Path) -> list[str]:
        """Settings in which this checkpoint differs from what the engine was made for; then its weights alone will not do."""
        return [] if self._checkpoint == checkpoint else self._client.differs(self._started_with, checkpoint)

    def prove_new(self) -> None:
        """Of an engine just started: that it holds its checkpoint, and that the proof works for this architecture."""
        self._checkpoint, self._own = self._started_with, self._client.sums_of(self._started_with)
        self._prove(self._own.sums, f"the checkpoint {self._checkpoint}")

    def hold(self, checkpoint: Path, weights: Path | None) -> None:
        """Have the checkpoint in the engine, with these merged tensors or none, and the prefix cache empty of others.

        Raises: Unproved when the engine holds something else afterwards; EngineGone; EngineError when vLLM refuses.
        """
        file = () if weights is None else _look(weights)
        if self._checkpoint == checkpoint and (self._from == file if file else not self._replaced):
            return
        self._from = ()
        what = f"the merged weights {weights.stem}" if weights is not None else f"the checkpoint {checkpoint}"
        try:
            with tempfile.TemporaryDirectory(prefix="swap-", dir=self._scratch) as folder:
                link = Path(folder)
                if weights is not None:
                    (link / "model.safetensors").symlink_to(weights.resolve())
                expected = self._exchange(checkpoint, link if weights is not None else None)
            self._prove(expected, what)
            self._from = file
        except (EngineGone, Unproved):
            raise
        except EngineError as error:
            raise EngineError(f"{what} cannot be put into a vLLM engine: {error}") from None

    def _exchange(self, checkpoint: Path, merged: Path | None) -> dict[str, int]:
        """Load what has to be loaded; the sums to expect. `merged`: a folder with the merged tensors."""
        new = self._client.sums_of(merged) if merged is not None else Tensors({}, {})
        if self._checkpoint != checkpoint or not self._replaced <= new.sums.keys():
            own = self._own if self._checkpoint == checkpoint else self._client.sums_of(checkpoint)
            self._load(checkpoint)
            self._checkpoint, self._own, self._replaced = checkpoint, own, set()
        for name, shape in sorted(new.shapes.items()):
            if name not in self._own.shapes:
                raise EngineError(f"{name!r} is no parameter of the seed model")
            if shape != self._own.shapes[name]:
                raise EngineError(f"{name} has shape {shape}, the seed model's is {self._own.shapes[name]}")
        if merged is None:
            return self._own.sums
        self._replaced = set(new.sums)
        self._load(merged)
        # Of a tied head that the checkpoint stores, too, a merge holds the embedding only: that is what the head is now.
        tied = aliases(Checkpoint(checkpoint)).items()
        heads = {head: new.sums[embedding] for head, embedding in tied if embedding in new.sums}
        return {**self._own.sums, **heads, **new.sums}

    def _load(self, folder: Path) -> None:
        self._changes += 1
        self._client.load(folder)
        self._client.forget_prefixes()

    def _prove(self, expected: dict[str, int], what: str) -> None:
        shares = self._client.sums()
        self.device, self.dtype = shares.device, shares.dtype
        assert self._checkpoint is not None
        wrong = faults(total_of(shares.sums), expected, _incomparable(self._checkpoint, len(shares.sums)))
        if wrong:
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            raise Unproved(f"engine {self._client.url} does not hold {what}: {wrong[0]}{more} differ")


def _look(file: Path) -> tuple[object, ...]:
    """What changes when a file does."""
    found = file.stat()
    return file, found.st_size, found.st_mtime_ns, found.st_ino


def _incomparable(checkpoint: Path, workers: int) -> tuple[str, ...]:
    """Kinds of layers whose shares cannot be added up: with more workers than KV heads, several hold the same heads."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    heads = config.get("num_key_value_heads") or config.get("num_attention_heads") or workers
    return ("attention",) if workers > heads else ()
