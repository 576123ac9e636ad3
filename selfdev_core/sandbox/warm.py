"""What a worker loads and does once so that no program has to: behind closed doors nothing can be loaded any more."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# What the contract lets a program import, and what those modules load only when they are first used.
_MODULES = (
    "math", "cmath", "typing", "collections", "collections.abc", "functools", "itertools", "statistics",
    "random", "operator", "copy", "time", "string", "re", "json", "struct", "bisect", "heapq", "decimal", "fractions",
    "dataclasses", "enum", "abc", "contextlib", "warnings", "traceback", "inspect", "numbers", "textwrap", "types",
    "torch", "torch.nn", "torch.nn.functional", "torch.nn.init", "torch.nn.utils", "torch.linalg", "torch.fft",
    "torch.special", "torch.sparse", "torch.distributions", "torch.func", "torch.optim", "torch.autograd.functional",
    "torch.masked", "torch.nested", "torch.optim.lr_scheduler", "torch.utils.data", "torch._tensor_str",
    "torch.backends.opt_einsum",
    "numpy", "numpy.linalg", "numpy.random", "numpy.fft", "numpy.polynomial", "numpy.ma", "numpy.typing",
    "encodings.ascii", "encodings.latin_1", "encodings.utf_16", "encodings.utf_32", "encodings.idna",
)  # fmt: skip


def load_libraries() -> None:
    """Import what programs may use. Leaves one thread."""
    for module in _MODULES:
        with suppress(ImportError):
            importlib.import_module(module)
    import torch

    _leave_out_the_compiler()
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)


def _leave_out_the_compiler() -> None:
    """Stand in for torch's compiler, which optimisers and torch.func load to mark what it must not compile.

    Loading it takes a second and 70 MB, and in a jail it cannot compile anyway: everything runs as it is.
    """
    import torch

    absent = ModuleType("torch._dynamo")
    absent.__dict__.update(
        disable=lambda fn=None, *_, **__: fn if fn is not None else lambda inner: inner,
        disallow_in_graph=lambda fn: fn,
        graph_break=lambda *_, **__: None,
        compiled_autograd=SimpleNamespace(_disable=nullcontext),
    )
    sys.modules["torch._dynamo"] = absent
    torch._dynamo = absent


def warm_up() -> None:
    """Do once what torch does on first use, such as choosing kernels and importing helpers; starts no thread."""
    import torch

    torch.default_generator.manual_seed(0)
    matrix = torch.randn(64, 48)
    with torch.no_grad():
        for act in _acts(matrix):
            with suppress(RuntimeError, ImportError):  # a build without LAPACK, say: then programs have none either
                act()


def _acts(a: torch.Tensor) -> tuple[Callable[[], object], ...]:
    import torch

    square = a.T @ a + torch.eye(48)
    stack = torch.stack([a, -a])
    vector = a.flatten()
    return (
        lambda: torch.where(a.abs() > a.abs().flatten().quantile(0.5), a, torch.zeros_like(a)).clamp(-1, 1),
        lambda: a.abs().flatten().kthvalue(9).values + vector.topk(3).values.sum() + vector.sort().values[0],
        lambda: torch.bernoulli(torch.full((64, 48), 0.5)) * torch.rand_like(a) * torch.randperm(64)[:, None],
        lambda: torch.softmax(stack, 0) * torch.sign(stack.sum(0)) + stack.max(0).values + stack.mean((0, 1)).norm(),
        lambda: torch.cosine_similarity(vector, vector, dim=0) + a.std() + a.median() + torch.tanh(a).var(),
        lambda: (torch.linalg.svd(a), torch.linalg.qr(a), torch.linalg.eigh(square), torch.linalg.inv(square)),
        lambda: (torch.linalg.norm(a), torch.linalg.pinv(a), torch.linalg.cholesky(square), torch.linalg.det(square)),
        lambda: (torch.linalg.solve(square, square), torch.linalg.lstsq(a, a), torch.linalg.matrix_rank(a)),
        lambda: (torch.svd_lowrank(a, 4), torch.pca_lowrank(a, 4), torch.matrix_exp(square / 100)),
        lambda: (torch.fft.fft(a), torch.fft.rfft2(a), torch.fft.ifft(torch.fft.fft(a)), torch.stft),
        lambda: (torch.einsum("ij,kj->ik", a, a), torch.bmm(stack, stack.mT), torch.nn.functional.normalize(a)),
        lambda: (torch.cdist(a, a), torch.corrcoef(a), torch.cov(a), torch.histc(vector), torch.unique(vector)),
        lambda: (a.bfloat16() @ a.bfloat16().T, a.half() + a.half(), (a.double() @ a.double().T).float()),
        lambda: torch.nn.functional.conv1d(a[None], torch.ones(64, 64, 3)),
        lambda: (repr(a), str(square[0, 0]), f"{a.mean():.3f}", a.numpy().mean(), torch.from_numpy(a.numpy() * 2)),
        lambda: (torch.allclose(a, a), torch.isfinite(a).all(), torch.equal(a, a), a.tolist(), float(a.sum())),
        lambda: torch.autograd.grad((a.clone().requires_grad_() ** 2).sum(), a, allow_unused=True),
        lambda: torch.Generator().manual_seed(1),
        lambda: torch.vmap(torch.sum)(a),
    )
