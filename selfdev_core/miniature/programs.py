"""A wide random grammar of merge programs, good and bad: what the miniature's factory learned before any preference.

The programs are written against the real contract (`merge_models(model_dict, device, layer)`, one parameter a call,
task vectors in, one tensor of their shape out, no input changed in place). Coefficients are drawn widely on purpose:
most programs are poor, so a factory that only imitates this grammar has a low mean score and much to learn.
"""

from __future__ import annotations

import random

PROMPT = "import torch\n\ndef merge_models(model_dict, device, layer):"

_DEPTH = ("depth = layer.index / layer.count", "depth = (layer.index + 1) / layer.count")
_COSINE = "near = torch.cosine_similarity(a.flatten(), b.flatten(), dim=0)"


def sample_program(rng: random.Random) -> str:
    """One complete program source, beginning with `PROMPT` and ending in its return line."""
    lines = _pair_program(rng) if rng.random() < 0.72 else _stack_program(rng)
    return PROMPT + "".join(f"\n    {line}" for line in lines)


def _coefficient(rng: random.Random) -> str:
    """A coefficient, in tenths: from -2 to 3, six in ten outside [0, 1.2]."""
    roll = rng.random()
    if roll < 0.35:
        return f"{rng.randint(1, 12) / 10}"
    if roll < 0.70:
        return f"{rng.randint(13, 30) / 10}"
    return f"-{rng.randint(1, 20) / 10}" if roll < 0.94 else "0.0"


def _share(rng: random.Random) -> str:
    return f"{rng.randint(1, 9) / 10}"


def _pair_program(rng: random.Random) -> list[str]:
    """Two experts by name (or in order) as `a` and `b`, up to two transforms, then one way to combine them."""
    opening = rng.choice(
        (
            ['a = model_dict["alpha"]', 'b = model_dict["beta"]'],
            ['a = model_dict["alpha"]', 'b = model_dict["beta"]'],
            ["a, b = model_dict.values()"],
        )
    )
    changes = [_transform(rng) for _ in range(rng.choice((0, 0, 1, 1, 2)))]
    return [*opening, *changes, *_combination(rng)]


def _transform(rng: random.Random) -> str:
    x, y = rng.choice((("a", "b"), ("b", "a")))
    keep, bound = _share(rng), f"0.0{rng.randint(1, 6)}"
    return rng.choice(
        (
            f"{x} = torch.where({x}.abs() > {x}.abs().mean(), {x}, 0 * {x})",
            f"{x} = torch.where({x}.abs() > {x}.abs().flatten().quantile({keep}), {x}, 0 * {x})",
            f"{x} = {x} * (torch.rand_like({x}) < {keep})",
            f"{x} = {x} * (torch.rand_like({x}) < {keep}) / {keep}",
            f"{x} = {x} * {y}.norm() / ({x}.norm() + 1e-8)",
            f"{x} = torch.where({x} * {y} > 0, {x}, 0 * {x})",
            f"{x} = {x}.clamp(-{bound}, {bound})",
            f"{x} = torch.tanh({x})",
            f"{x} = {x} - {x}.mean()",
            f"{x} = {keep} * {x} + {_share(rng)} * {x}.mean(0, keepdim=True)",
            f"{x} = {_coefficient(rng)} * {x}",
        )
    )


def _combination(rng: random.Random) -> list[str]:
    p, q, r, s = (_coefficient(rng) for _ in range(4))
    x, y = rng.choice((("a", "b"), ("b", "a")))
    depth = rng.choice(_DEPTH)
    weighted = f"return {p} * {x} + {q} * {y}"
    return rng.choice(
        (
            [weighted],
            [weighted],
            [weighted],
            [f"return {p} * ({x} + {y})"],
            [f"return {p} * ({x} - {y})"],
            [f"return torch.where({x}.abs() > {y}.abs(), {p} * {x}, {q} * {y})"],
            [f"return {p} * torch.maximum({x}, {y}) + {q} * torch.minimum({x}, {y})"],
            [f"w = {_share(rng)}", f"return {p} * (w * {x} + (1 - w) * {y})"],
            [depth, f"return {p} * {x} + ({q} + {r} * depth) * {y}"],
            [depth, f"return {p} * depth * {x} + {q} * (1 - depth) * {y}"],
            [depth, f"return ({p} + {q} * depth) * {x} + ({r} + {s} * depth) * {y}"],
            [
                f'w = {p} if "{rng.choice(("down", "up", "gate"))}" in layer.name else {q}',
                f"return w * {x} + {r} * {y}",
            ],
            [f"w = {p} if layer.index < {rng.randint(1, 3)} else {q}", f"return w * {x} + {r} * {y}"],
            [_COSINE, f"return {p} * {x} + ({q} + {r} * near) * {y}"],
            [_COSINE, f"return ({p} - near) * ({x} + {y})"],
        )
    )


def _stack_program(rng: random.Random) -> list[str]:
    """Any number of experts, without their names: a stack of task vectors, or a loop over them."""
    p, q, keep = _coefficient(rng), _coefficient(rng), _share(rng)
    taus = "taus = list(model_dict.values())"
    stack = "stack = torch.stack(list(model_dict.values()))"
    return rng.choice(
        (
            [stack, f"return {p} * stack.sum(0)"],
            [stack, f"return {p} * stack.mean(0)"],
            [
                stack,
                "sign = torch.sign(stack.sum(0))",
                "keep = torch.sign(stack) == sign",
                f"return {p} * (stack * keep).sum(0)",
            ],
            [
                stack,
                "size = stack.abs()",
                f"keep = size > {p} * size.mean()",
                f"return {q} * (stack * keep).sum(0)",
            ],
            [
                stack,
                f"keep = torch.rand_like(stack) < {keep}",
                f"return {p} * (stack * keep).sum(0) / {keep}",
            ],
            [stack, "w = torch.softmax(stack.abs(), 0)", f"return {p} * (w * stack).sum(0)"],
            [stack, f"return {p} * stack.max(0).values + {q} * stack.min(0).values"],
            [
                taus,
                "merged = 0 * taus[0]",
                "for tau in taus:",
                f"    merged = {keep} * merged + {p} * tau",
                f"return {q} * merged",
            ],
            [
                taus,
                "merged = 0 * taus[0]",
                "for tau in taus:",
                f"    merged = merged + {p} * tau / (1 + tau.norm())",
                "return merged",
            ],
            [
                taus,
                f"merged = {p} * taus[0]",
                "for tau in taus[1:]:",
                f"    merged = merged + {q} * tau",
                "return merged",
            ],
            [taus, rng.choice(_DEPTH), f"return ({p} + {q} * depth) * sum(taus)"],
        )
    )
