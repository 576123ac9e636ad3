"""One small tokenizer for both families, so their programs and problems read alike; digits stand alone.

Words and newline-plus-indent are single pieces, and a piece never crosses from one into the other: a prompt that ends
in `:` is always a prefix of the whole program's tokens.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from selfdev_core.miniature.drills import equation
from selfdev_core.miniature.problems import questions
from selfdev_core.miniature.programs import sample_program
from selfdev_core.miniature.skills import SKILLS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 640
END, PADDING, UNKNOWN = "<eos>", "<pad>", "<unk>"

_PIECES = r"\n *| ?[A-Za-z_]+|[0-9]| ?[^\sA-Za-z_0-9]+| +"


def train_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of `VOCABULARY` tokens over printable ASCII, always the same; the rest becomes `<unk>`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = [chr(code) for code in range(33, 127)] + ["Ġ", "Ċ"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PADDING, END, UNKNOWN],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PADDING,
        unk_token=UNKNOWN,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _corpus() -> list[str]:
    rng = random.Random(0)
    texts = [sample_program(rng) for _ in range(2000)]
    texts += ["".join(equation(rng)) for _ in range(200)]
    for family in sorted(SKILLS):
        texts += [f"Q: {one.question}\nA: {one.solution}" for one in questions(family, "train", 2000)]
    return texts
