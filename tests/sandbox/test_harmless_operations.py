"""What programs may reasonably use works behind closed doors, where nothing can be loaded late, and gives the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from selfdev_core.sandbox.bundle import write_bundle
from selfdev_core.sandbox.client import Sandbox

# Expressions over two matrices a, b (24 × 16) that give a tensor or a number.
EXPRESSIONS = """
torch.linalg.svd(a)[1].sum()
torch.linalg.svdvals(a).sum()
torch.linalg.qr(a)[1].abs().sum()
torch.linalg.eigvalsh(a.T @ b + b.T @ a).sum()
torch.linalg.eigvals(a.T @ b).real.sum()
torch.linalg.lstsq(a, b).solution.sum()
torch.linalg.pinv(a).sum()
torch.linalg.matrix_rank(a)
torch.linalg.cond(a)
torch.linalg.slogdet(a.T @ a)[1]
torch.linalg.matrix_norm(a, "nuc")
torch.linalg.vector_norm(a, 3)
torch.linalg.multi_dot([a, b.T, a]).sum()
torch.linalg.householder_product(*torch.geqrf(a)).abs().sum()
torch.linalg.matrix_exp(a.T @ b).sum()
torch.linalg.cholesky(a.T @ a + torch.eye(16)).sum()
torch.linalg.solve(a.T @ a + torch.eye(16), b.T).sum()
torch.svd_lowrank(a, 4)[1].sum() > 0
torch.pca_lowrank(a, 4)[1].sum() > 0
torch.lobpcg(a.T @ a, 2)[0].sum()
torch.fft.fft2(a).abs().sum()
torch.fft.irfft(torch.fft.rfft(a)).sum()
torch.stft(a.flatten(), 64, window=torch.hann_window(64), return_complex=True).abs().sum()
torch.einsum("ij,ij->i", a, b).sum()
torch.einsum("ij,kj,kl->il", a, b, a).sum()
torch.tensordot(a, b, dims=2)
torch.kron(a[:2, :2], b[:2, :2]).sum()
torch.quantile(a, torch.tensor([0.1, 0.9])).sum()
torch.nanquantile(a, 0.5)
torch.kthvalue(a.flatten(), 7).values
torch.topk(a.abs().flatten(), 5).values.sum()
torch.sort(a, descending=True).values[:, 0].sum()
torch.argsort(a.flatten())[0]
torch.unique(a.sign()).sum()
torch.histc(a, 8).sum()
torch.histogram(a.flatten(), 8)[0].sum()
torch.bincount((a > 0).int().flatten()).sum()
torch.cdist(a, b).sum()
torch.corrcoef(a).sum()
torch.cov(a).sum()
torch.logsumexp(a, 0).sum()
torch.softmax(a, 0).sum()
torch.cumsum(a, 0).sum()
torch.logcumsumexp(a, 1).sum()
torch.median(a) + torch.mode(a.sign().flatten()).values
torch.special.erf(a).sum() + torch.special.expit(a).sum() + torch.lgamma(a.abs() + 1).sum()
torch.nn.functional.normalize(a).sum()
torch.nn.functional.cosine_similarity(a, b).sum()
torch.nn.functional.layer_norm(a, (16,)).abs().sum()
torch.nn.functional.gelu(a).sum() + torch.nn.functional.silu(a).sum()
torch.nn.functional.interpolate(a[None, None], size=(24, 16), mode="bilinear").sum()
torch.nn.functional.avg_pool2d(a[None, None], 2).sum()
torch.nn.functional.conv2d(a[None, None], torch.ones(1, 1, 3, 3)).sum()
torch.nn.functional.scaled_dot_product_attention(a[None], b[None], a[None]).sum()
torch.nn.functional.dropout(a, 0.5).sum()
torch.nn.Linear(16, 4)(a).abs().sum() > 0
torch.nn.Sequential(torch.nn.Linear(16, 4), torch.nn.ReLU())(a).sum() >= 0
torch.bernoulli(torch.full_like(a, 0.5)).sum()
torch.randn_like(a).sum() + torch.rand(3).sum() + torch.randperm(9)[0] + torch.randint(0, 5, (3,)).sum()
torch.multinomial(a.abs().flatten(), 5).sum()
torch.distributions.Normal(0.0, 1.0).sample((3,)).sum()
torch.distributions.Beta(2.0, 3.0).log_prob(torch.tensor(0.5))
torch.normal(0.0, 1.0, (3,), generator=torch.Generator().manual_seed(3)).sum()
torch.lerp(a, b, 0.3).sum() + torch.addcmul(a, a, b).sum()
torch.maximum(a, b).sum() + torch.hypot(a, b).sum() + torch.atan2(a, b).sum()
torch.where(a > b, a, b).sum() + torch.heaviside(a, b).sum()
(a.bfloat16() @ b.bfloat16().T).float().sum()
(a.half() * 2).float().sum() + a.double().sum()
torch.vmap(torch.dot)(a, b).sum()
torch.func.grad(lambda x: (x * x).sum())(a).sum()
[p.requires_grad_() for p in [a.clone()]][0].sum().detach()
torch.enable_grad()(lambda x: torch.autograd.grad((x**2).sum(), x))(a.clone().requires_grad_())[0].sum()
steps(torch.optim.Adam, a)
steps(torch.optim.SGD, a)
torch.optim.lr_scheduler.StepLR(torch.optim.AdamW([torch.nn.Parameter(a.clone())]), 3).get_last_lr()[0]
torch.nn.init.orthogonal_(a.clone()).abs().max() > 0
torch.nn.utils.parameters_to_vector([a, b]).sum()
torch.nested.nested_tensor([a[0], b[0]]).to_padded_tensor(0.0).sum()
torch.sparse.mm(a.to_sparse(), b.T).sum()
torch.stack([a, b]).var(0, unbiased=False).sum()
torch.cat([a, b]).roll(3, 0).flip(0).tril().sum()
torch.tensor(a.tolist()).sum() + torch.as_tensor(a.numpy()).sum()
torch.from_numpy(numpy.linalg.svd(a.numpy())[1]).sum()
float(numpy.quantile(a.numpy(), 0.3)) + float(numpy.median(b.numpy())) + float(numpy.percentile(a.numpy(), 5))
float(numpy.fft.fft(a.numpy()).real.sum()) + float(numpy.polyfit([1, 2, 3], [1, 4, 9], 2).sum())
float(numpy.random.default_rng(0).normal(size=3).sum()) + float(numpy.random.rand())
float(numpy.einsum("ij,ij->", a.numpy(), b.numpy())) + float(numpy.histogram(a.numpy())[0].sum())
statistics.fmean(a[0].tolist()) + statistics.median(b[0].tolist()) + statistics.stdev(a[0].tolist())
sum(itertools.accumulate([1, 2])) + functools.reduce(lambda x, y: x + y, [1, 2]) + collections.Counter("aab")["a"]
math.comb(5, 2) + math.dist([0, 0], [3, 4]) + len(f"{a.mean():.3f}") * 0 + len(repr(a)) * 0 + len(str(a[0, 0])) * 0
len(typing.get_type_hints(lambda x: x)) + 1.0
torch.optim.SGD([torch.nn.Parameter(a.clone())], lr=0.1).param_groups[0]["lr"]
torch.set_num_threads(4) or (torch.ones(2000, 300) @ torch.ones(300, 200)).sum()
""".strip().splitlines()
IMPORTS = """
import torch, math, numpy, statistics, itertools, functools, collections, typing
@torch.enable_grad()
def steps(optimiser, start):
    parameter = torch.nn.Parameter(start.clone())
    by = optimiser([parameter], lr=0.1)
    for _ in range(3):
        by.zero_grad()
        (parameter**2).sum().backward()
        by.step()
    return parameter.detach().sum()
"""


@pytest.fixture(scope="module")
def matrices() -> dict[str, Any]:
    import torch

    generator = torch.Generator().manual_seed(1)
    return {expert: torch.randn(24, 16, generator=generator) for expert in ("alpha", "beta")}


@pytest.fixture(scope="module")
def jail(matrices: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    path = tmp_path_factory.mktemp("matrices") / "probes.safetensors"
    bundle = write_bundle(path, {"w": matrices}, ("alpha", "beta"), blocks=1)
    with Sandbox({"probes": bundle}, 30.0, 2.0) as one:
        yield one


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_(expression: str, jail: Sandbox, matrices: dict[str, Any]) -> None:
    import torch

    source = (
        f"{IMPORTS}\ndef merge_models(model_dict, device):\n    a, b = model_dict.values()\n"
        f"    return torch.zeros(24, 16) + float({expression})\n"
    )
    run = jail.run(source, "probes")
    assert run.reason == "accepted", run.detail
    if "rand" in expression or any(word in expression for word in ("bernoulli", "dropout", "multinomial", "Linear")):
        return  # seeded by the worker, not here
    if "distributions.Normal" in expression or "lobpcg" in expression or "set_num_threads" in expression:
        return
    scope: dict[str, Any] = {}
    exec(IMPORTS, scope)
    with torch.no_grad():
        outside = float(eval(expression, scope | {"a": matrices["alpha"].clone(), "b": matrices["beta"].clone()}))
    assert float(run.tensors["w"][0, 0]) == pytest.approx(outside, rel=1e-3, abs=1e-4)
