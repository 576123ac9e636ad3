"""Whether checkpoints fit together, told before any work starts: every mismatch, with counts and a few names each.

What would make a merge wrong or impossible is a fault; what only ought to be known (an expert's own added tokens when the
embeddings are not merged, another number format) is a warning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfdev_core.errors import CheckpointError
from selfdev_core.merging.checkpoints import Checkpoint, file_digest
from selfdev_core.merging.scope import aliases, in_scope, is_weight, merged_names, ties
from selfdev_core.records import Scope
from selfdev_core.tensors.finite import finite
from selfdev_core.tensors.mapped import FLOATS, blocks
from selfdev_core.tensors.written import raw

if TYPE_CHECKING:
    import torch

# Settings that change what a weight means without changing its shape.
_MEANING = ("num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act")
# Settings in which fine-tuned siblings may differ; the merged model keeps the seed's.
_KEPT = (
    "vocab_size", "tie_word_embeddings", "rope_theta", "rope_scaling", "sliding_window", "max_position_embeddings",
    "rms_norm_eps", "bos_token_id", "eos_token_id",
)  # fmt: skip
# Files that hold a vocabulary, by kind; of two models, those of the first kind that both have are compared.
_TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"), ("vocab.txt",))
_NAMED = 3  # names told per kind of mismatch
_QUANTISED = "is quantised (quantization_config in its config.json); give it in bf16, fp16 or fp32"
_BIG = 2**30  # bytes of weights from which on reading them is announced
_VOCABULARY = ("embed_tokens", "lm_head", "wte", "word_embeddings", "embed_in", "embed_out")


class Fit(NamedTuple):
    """Lines for a person: what makes a merge of the set impossible, and what ought to be known."""

    faults: tuple[str, ...]
    warnings: tuple[str, ...]


def check_fit(
    seed: Checkpoint, experts: dict[str, Checkpoint], scope: Scope, note: Callable[[str], None] | None = None
) -> tuple[str, ...]:
    """Refuse a set that cannot be merged, before any work starts; returns what ought to be known.

    `note` hears how far the reading of big checkpoints is. Raises: CheckpointError listing every mismatch of
    architecture, tensors, vocabulary and tokenizer, and, when there is none, every weight that is not finite.
    """
    warnings = check_headers(seed, experts, scope)
    check_finite(seed, experts, scope, note)
    return warnings


def check_headers(seed: Checkpoint, experts: dict[str, Checkpoint], scope: Scope) -> tuple[str, ...]:
    """The part of `check_fit` that reads no weight."""
    found = compare(seed, experts, scope)
    _refuse(found.faults, found.warnings)
    return found.warnings


def check_finite(
    seed: Checkpoint, experts: dict[str, Checkpoint], scope: Scope, note: Callable[[str], None] | None = None
) -> None:
    """Read what matters of every checkpoint. Raises: CheckpointError naming the tensors that hold NaN or infinity, and tied
    ones that are stored twice and differ."""
    torn = _torn({"seed": seed, **experts}, scope)
    _refuse((*torn, *_not_finite(seed, experts, scope, note or (lambda _: None))))


def _refuse(faults: tuple[str, ...], warnings: tuple[str, ...] = ()) -> None:
    if faults:
        lines = ["the models cannot be merged:", *faults, *(f"(and, no obstacle) {one}" for one in warnings)]
        raise CheckpointError("\n  ".join(lines))


def compare(seed: Checkpoint, experts: dict[str, Checkpoint], scope: Scope) -> Fit:
    """Everything that headers, configs and tokenizers tell; no weight is read."""
    faults: list[str] = []
    warnings: list[str] = []
    merged = merged_names(seed, scope)
    quantised = [name for name in seed.shapes if in_scope(name, scope) and _is_quantised(seed, name)]
    if not merged and not quantised:
        faults.append(f"models.scope: {scope!r} matches no parameter of {seed.folder}; try scope: all")
    if "quantization_config" in seed.config:
        faults.append(f"models.seed ({seed.folder}): {_QUANTISED}")
    elif quantised:
        faults.append(
            f"models.seed ({seed.folder}): {_list(quantised)} {_are(quantised)} stored as {seed.dtypes[quantised[0]]}; "
            "give the model in bf16, fp16 or fp32"
        )
    for label, model in experts.items():
        where = f"models.experts.{label} ({model.folder})"
        kinds = (seed.config.get("model_type"), model.config.get("model_type"))
        if kinds[0] != kinds[1]:
            faults.append(f"{where}: architecture {kinds[1]!r}, the seed's is {kinds[0]!r}")
        own = [_tensors(seed, model, merged), _settings(seed, model), _tokenizer(seed, model, scope)]
        own.append(_outside(seed, model, set(merged)))
        faults += [f"{where}: {text}" for part in own for text in part.faults]
        warnings += [f"{where}: {text}" for part in own for text in part.warnings]
    return Fit(tuple(faults), tuple(warnings))


def _tensors(seed: Checkpoint, model: Checkpoint, merged: list[str]) -> Fit:
    """What is merged must be there, of the seed's shape, in numbers."""
    faults, warnings = [], []
    missing = [name for name in merged if name not in model.shapes]
    if missing:
        why = " (its embeddings are tied, the seed's are not)" if ties(model.config) and not ties(seed.config) else ""
        faults.append(f"has no tensor {_list(missing)}{why}")
    there = [name for name in merged if name in model.shapes]
    differ = [name for name in there if model.shapes[name] != seed.shapes[name]]
    if differ:
        vocabulary = all(any(part in name for part in _VOCABULARY) for name in differ)
        mend = "; its vocabulary has another size: scope mlp leaves the embeddings out" if vocabulary else ""
        faults.append(_shapes(seed, model, differ) + mend)
    quantised = [name for name in there if model.dtypes[name] not in FLOATS]
    if quantised:
        dtype = model.dtypes[quantised[0]]
        faults.append(f"{_list(quantised)} {_are(quantised)} stored as {dtype}; give the expert in bf16, fp16 or fp32")
    mixed = [name for name in there if model.dtypes[name] in FLOATS and model.dtypes[name] != seed.dtypes[name]]
    if mixed:
        one = mixed[0]
        warnings.append(
            f"stored as {model.dtypes[one]}, the seed as {seed.dtypes[one]} ({_count(mixed, 'tensor')}); the merged model is "
            "stored as the seed"
        )
    unknown = [name for name in model.shapes if name not in seed.shapes]
    if unknown:
        warnings.append(f"has {_count(unknown, 'tensor')} that the seed has not, left out: {_list(unknown)}")
    return Fit(tuple(faults), tuple(warnings))


def _outside(seed: Checkpoint, model: Checkpoint, merged: set[str]) -> Fit:
    """What is not merged stays the seed's, so an expert may differ there."""
    outside = [name for name in seed.shapes if name not in merged and name not in aliases(seed)]
    missing = [name for name in outside if name not in model.shapes]
    differ = [name for name in outside if name in model.shapes and model.shapes[name] != seed.shapes[name]]
    warnings = []
    if missing:
        warnings.append(f"has no tensor {_list(missing)}; not merged, the seed's {_are(missing)} kept")
    if differ:
        warnings.append(f"{_shapes(seed, model, differ)}; not merged, the seed's {_are(differ)} kept")
    return Fit((), tuple(warnings))


def _settings(seed: Checkpoint, model: Checkpoint) -> Fit:
    faults: list[str] = []
    warnings: list[str] = []
    own, other = _said(seed.config), _said(model.config)
    for keys, lines, after in ((_MEANING, faults, ""), (_KEPT, warnings, "; the merged model keeps the seed's")):
        for key in keys:
            if key in own and key in other and own[key] != other[key]:
                lines.append(f"{key} is {other[key]!r}, the seed's is {own[key]!r}{after}")
            elif key in other and key not in own:
                warnings.append(f"{key} is {other[key]!r}, of which the seed's config.json says nothing")
            elif key in own and key not in other:
                warnings.append(f"its config.json says nothing of {key}, the seed's is {own[key]!r}")
    if "quantization_config" in model.config:
        faults.append(_QUANTISED)
    return Fit(tuple(faults), tuple(warnings))


def _said(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config.json says of its language model: nested or not, in the words of old and new versions of transformers, with
    what follows from it; null says nothing."""
    nested = config.get("text_config")
    said = {**config, **(nested if isinstance(nested, dict) else {}), "tie_word_embeddings": ties(config)}
    rope: dict[str, Any] = {}
    for name in ("rope_scaling", "rope_parameters"):
        rope |= found if isinstance(found := said.get(name), dict) else {}
    if rope.get("rope_type") == "default":
        del rope["rope_type"]
    if "rope_theta" in rope:
        said["rope_theta"] = rope.pop("rope_theta")
    said["rope_scaling"] = rope or None
    heads, hidden = said.get("num_attention_heads"), said.get("hidden_size")
    if said.get("num_key_value_heads") is None:
        said["num_key_value_heads"] = heads
    if said.get("head_dim") is None and isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
        said["head_dim"] = hidden // heads
    return {key: value for key, value in said.items() if value is not None}


def _tokenizer(seed: Checkpoint, model: Checkpoint, scope: Scope) -> Fit:
    """The merged model reads with the seed's tokenizer, so an expert must have learned with the same numbers for tokens; and
    where embeddings are merged, no number may stand for one token there and for another here."""
    faults, warnings = [], []
    folders = (seed.folder, model.folder)
    kind = next((kind for kind in _TOKENIZERS if all((folder / kind[0]).is_file() for folder in folders)), None)
    if kind is None:
        known = ", ".join(kind[0] for kind in _TOKENIZERS)
        warnings.append(f"its tokenizer cannot be compared with the seed's: they share no file of a kind ({known})")
    else:
        differ = [name for name in kind if file_digest(seed.folder / name) != file_digest(model.folder / name)]
        if differ == ["tokenizer.json"]:
            own, other = (_Vocabulary(folder / "tokenizer.json") for folder in folders)
            moved = [token for token, number in other.tokens.items() if own.tokens.get(token, number) != number]
            if not other.tokens or moved:
                what = (
                    f"{_count(moved, 'token')} of {len(own.tokens)} with another number" if moved else "no vocabulary"
                )
                faults.append(
                    f"its tokenizer.json differs from the seed's ({what}); experts must be fine-tuned siblings"
                )
            if scope == "all" and (taken := _taken(own, other)):
                faults.append(
                    f"its tokenizer.json has another token than the seed's for {_count(taken, 'number')}: {_list(taken)}; their "
                    "embeddings cannot be merged: scope mlp leaves them out"
                )
            warnings += _apart(own, other)
        elif differ:
            verb = "differs" if len(differ) == 1 else "differ"
            faults.append(f"its {' and '.join(differ)} {verb} from the seed's; experts must be fine-tuned siblings")
    templates = [_template(one.folder) for one in (seed, model)]
    if templates[0] != templates[1] and templates[1]:
        warnings.append("its chat template differs from the seed's; the merged model keeps the seed's")
    return Fit(tuple(faults), tuple(warnings))


def _taken(own: _Vocabulary, other: _Vocabulary) -> list[str]:
    """The other's tokens that the own vocabulary has not, but whose numbers it has."""
    named = {number: token for token, number in own.tokens.items()}
    new = {token: number for token, number in other.tokens.items() if token not in own.tokens}
    return [f"{number} is {token}, the seed's {named[number]}" for token, number in new.items() if number in named]


def _apart(own: _Vocabulary, other: _Vocabulary) -> list[str]:
    told = []
    extra = [token for token in other.tokens if token not in own.tokens]
    absent = [token for token in own.tokens if token not in other.tokens]
    if extra and own.tokens:
        told.append(f"its tokenizer has {_count(extra, 'token')} that the seed's has not: {_list(extra)}")
    if absent and other.tokens:
        told.append(f"its tokenizer lacks {_count(absent, 'token')} of the seed's: {_list(absent)}")
    if not told and other.tokens and own.rules != other.rules:
        told.append(
            "its tokenizer.json cuts or joins text in another way than the seed's; the merged model keeps the seed's"
        )
    return told


class _Vocabulary:
    """Of a tokenizer.json: token → number, added tokens included, and everything else as text."""

    def __init__(self, path: Path) -> None:
        self.tokens: dict[str, int] = {}
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
            model, added = content.pop("model", {}), content.pop("added_tokens", [])
            words = model.pop("vocab", {})
            if isinstance(words, dict):
                self.tokens = dict(words)
            else:  # a Unigram model: (token, score) in order
                self.tokens = {token: number for number, (token, *_) in enumerate(words)}
            self.tokens |= {one["content"]: one["id"] for one in added}
            self.rules = json.dumps([content, model], sort_keys=True)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{path}: is not a tokenizer: {error}") from error


def _template(folder: Path) -> str:
    """The chat template, from either place where it may stand; empty when there is none."""
    own = folder / "chat_template.jinja"
    try:
        if own.is_file():
            return own.read_text(encoding="utf-8").strip()
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        found = config.get("chat_template") or ""
        return found.strip() if isinstance(found, str) else json.dumps(found, sort_keys=True)
    except (OSError, ValueError, AttributeError):
        return ""


def _not_finite(
    seed: Checkpoint, experts: dict[str, Checkpoint], scope: Scope, note: Callable[[str], None]
) -> Iterable[str]:
    """One line per model that holds NaN or infinity where it matters: anywhere in the seed, in what is merged in an expert."""
    merged = merged_names(seed, scope)
    for label, model in {"seed": seed, **experts}.items():
        names = [name for name in seed.shapes if is_weight(seed, name)] if model is seed else merged
        total = sum(model.pieces[name].bytes for name in names)
        done = told = 0
        bad = []
        for name in names:
            if total >= _BIG and 4 * done // total > told:
                told = 4 * done // total
                note(f"checking that {label} is finite: {done / 1e9:.1f} of {total / 1e9:.1f} GB read")
            done += model.pieces[name].bytes
            if not finite(model.tensor(name)):
                bad.append(name)
            model.forget(name)
        if bad:
            yield f"{label} ({model.folder}): {_list(bad)} {'holds' if len(bad) == 1 else 'hold'} NaN or infinity"


def _torn(models: dict[str, Checkpoint], scope: Scope) -> Iterable[str]:
    """One line per model that stores a tied weight twice, and not the same one."""
    for label, model in models.items():
        for head, embedding in aliases(model).items():
            same = not in_scope(head, scope) or _equal(model.tensor(head), model.tensor(embedding))
            model.forget(head)
            model.forget(embedding)
            if not same:
                yield (
                    f"{label} ({model.folder}): {head} and {embedding} differ though its embeddings are tied "
                    "(tie_word_embeddings); set that to false in its config.json, or remove the one that is not meant"
                )


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of one shape and dtype hold the same bytes."""
    a, b = raw(one), raw(other)
    return all(bytes(a[span]) == bytes(b[span]) for span in blocks(len(a), 1 << 20))


def _is_quantised(model: Checkpoint, name: str) -> bool:
    """Whether a tensor bears the name of a weight and holds no plain numbers; masks and positions are no weights."""
    return model.dtypes[name] not in FLOATS and "weight" in name.rpartition(".")[2]


def _list(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _shapes(seed: Checkpoint, model: Checkpoint, names: list[str]) -> str:
    told = [f"{name} has shape {model.shapes[name]}, the seed's is {seed.shapes[name]}" for name in names[:_NAMED]]
    rest = len(names) - _NAMED
    return "; ".join(told) + (f"; {rest} more like them" if rest > 0 else "")


def _count(names: list[str], what: str) -> str:
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}"


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
