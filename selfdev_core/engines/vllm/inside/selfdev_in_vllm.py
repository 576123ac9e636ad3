"""Runs inside the vLLM environment: starts vLLM's own server, and looks at the weights that its workers really use.

Covered here: the server and every process under it end when the process that started them is gone; the sums below are taken
from the tensors that the next forward pass will use. Not covered: that vLLM's kernels compute what they should.

This one file is all of ours that the vLLM environment sees; it imports nothing of ours and no library but torch, safetensors
and transformers, which vLLM brings.
"""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_OWNER = "SELFDEV_ENGINE_OWNER"  # pid of the process that started the server
_PIECE = 2**24  # elements summed at once
# In config.json and the tokenizer's files, what says nothing of how tokens are made or weights are used.
_IDLE = ("_name_or_path", "name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "chat_template")
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)
_GENERATION = "generation_config.json"


class Weights:
    """Mixed into vLLM's worker (`--worker-extension-cls`); each method is called in every worker by `collective_rpc`."""

    def selfdev_load(self: Any, folder: str) -> None:
        """vLLM's own reload, in place, from a folder's safetensors files; tensors that are not there stay.

        vLLM 0.32 forgets one thing: on a CPU, an output head that is tied to the embedding keeps the copy that it packed of
        the embedding as it was. So packed copies of weights that are still there are made again.
        """
        self.reload_weights(weights_path=folder)
        for module in self.model_runner.model.modules():
            if hasattr(module, "cpu_linear") and module.weight.numel():
                module.quant_method.process_weights_after_loading(module)

    def selfdev_sums(self: Any) -> dict[str, Any]:
        """Of each parameter of this worker's share of the model, a sum over its elements (signed 64 bits, as text). Besides: the
        worker's device, and the dtype in which it computes.

        The sum depends on the values, not on their order, so that it is the same for tensors that vLLM has fused, cut or
        repacked; zeros (padding) add nothing. A weight that was repacked for the CPU is read by multiplying the identity with
        it, which gives its elements exactly.
        """
        import torch

        sums: dict[str, int] = {}
        model = self.model_runner.model
        with torch.inference_mode():
            for name, module in model.named_modules():
                for own, parameter in module.named_parameters(recurse=False):
                    if own == "weight" and hasattr(module, "cpu_linear"):
                        sums[f"{name}.{own}"] = _read_back(module, self.model_config.dtype)
                    else:
                        sums[f"{name}.{own}"] = _sum(parameter)
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        dtype = str(self.model_config.dtype).removeprefix("torch.")
        return {"sums": {name: str(value) for name, value in sums.items()}, "device": device, "dtype": dtype}

    def selfdev_sums_of(self: Any, folder: str) -> dict[str, Any]:
        """The same sums of the tensors in a folder's safetensors files, in the dtype in which the model computes; their shapes.

        Taken by the first worker; the others give none.
        """
        import torch
        from safetensors import safe_open

        if self.rank != 0:
            return {"sums": {}, "shapes": {}}
        device = next(self.model_runner.model.parameters()).device
        sums: dict[str, str] = {}
        shapes: dict[str, list[int]] = {}
        with torch.inference_mode():
            for path in _weight_files(Path(folder)):
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118  (not a dict)
                        tensor = file.get_tensor(name)
                        shapes[name] = list(tensor.shape)
                        sums[name] = str(_sum(tensor.to(device, self.model_config.dtype)))
        return {"sums": sums, "shapes": shapes}

    def selfdev_differs(self: Any, own: str, other: str) -> dict[str, Any]:
        """Settings in which two checkpoint folders differ: for those, an engine for one would need more than other weights."""
        from transformers import AutoConfig

        def settings(where: Path) -> dict[str, Any]:
            found = {name: _plain(where / name) for name in _TOKENIZER} | {_GENERATION: _end_tokens(where)}
            found |= AutoConfig.from_pretrained(where).to_dict()
            return {name: value for name, value in found.items() if name not in _IDLE}

        one, two = settings(Path(own)), settings(Path(other))
        return {"differs": sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))}


def _weight_files(folder: Path) -> list[Path]:
    """The shards that the index names, or the one file: what vLLM loads."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [folder / Path(name).name for name in sorted(shards)]
    single = folder / "model.safetensors"
    return [single] if single.is_file() else sorted(folder.glob("*.safetensors"))


def _plain(path: Path) -> Any:
    """What a settings file says; of one that is no JSON its digest, None where it is not there."""
    if not path.is_file():
        return None
    if path.suffix != ".json":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    value = json.loads(path.read_text(encoding="utf-8"))
    return {k: v for k, v in value.items() if k not in _IDLE} if isinstance(value, dict) else value


def _end_tokens(folder: Path) -> list[int]:
    """The end tokens that vLLM takes from a checkpoint, with which its server was started; nothing else of that file counts."""
    given = _plain(folder / _GENERATION) or _plain(folder / "config.json") or {}
    ends = given.get("eos_token_id")
    return [] if ends is None else sorted([ends] if isinstance(ends, int) else ends)


def _read_back(module: Any, dtype: torch.dtype) -> int:
    """Sum of a linear layer's weight, as its forward pass uses it, whatever became of the parameter."""
    import torch

    width = getattr(module, "input_size_per_partition", None) or module.embedding_dim
    total, rows = 0, 256
    for start in range(0, width, rows):
        count = min(rows, width - start)
        identity = torch.zeros(count, width, dtype=dtype)
        identity[torch.arange(count), torch.arange(start, start + count)] = 1.0
        total += _sum(module.quant_method.apply(module, identity, None))
    return _signed(total)


def _sum(tensor: torch.Tensor) -> int:
    """Sum of a mix of each element's bits, modulo 2^64. Zero of either sign counts nothing."""
    import torch

    bits = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    total, flat = 0, tensor.detach().reshape(-1)
    for start in range(0, flat.numel(), _PIECE):
        piece = flat[start : start + _PIECE]
        if tensor.element_size() > 1 and tensor.is_floating_point():
            piece = piece + 0.0  # makes -0.0 zero
        piece = piece.view(bits).to(torch.int64)
        total += int((piece * (piece * 0x9E3779B97F4A7C1 + 0x2545F4914F6CDD1D)).sum())
    return _signed(total)


def _signed(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


def _end_with(process: int, group: bool) -> None:
    """End this process (with its group) once `process` is its parent no more."""

    def watch() -> None:
        while os.getppid() == process:
            time.sleep(0.5)
        if group:
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    # Started as `python selfdev_in_vllm.py OWNER vllm's own arguments …`, leader of a process group of its own.
    os.environ[_OWNER] = sys.argv.pop(1)
    _end_with(int(os.environ[_OWNER]), group=os.getpgrp() == os.getpid())
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)
elif _OWNER in os.environ and os.getppid() != int(os.environ[_OWNER]):
    _end_with(os.getppid(), group=False)  # imported by a process under the server: it ends with its parent
