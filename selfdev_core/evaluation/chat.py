"""Renders a checkpoint's chat template in a process of its own, and sees how it ends an answer. Started by prompts.py; JSON in,
JSON out.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

_ANSWER = "The answer is 42."


def main() -> None:
    """Read `{"folder", "turns"}`; write `{"text", "end"}` or `{"error"}`."""
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed is no answer
    asked = json.load(sys.stdin)
    try:
        reply = _rendered(asked["folder"], asked["turns"])
    except Exception as error:
        reply = {"error": f"{type(error).__name__}: {error}"[:500]}
    json.dump(reply, out)
    out.close()


def _rendered(folder: str, turns: list[dict[str, str]]) -> dict[str, str]:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    begin = tokenizer.bos_token_id
    if begin is not None and text.startswith(tokenizer.bos_token) and tokenizer(text)["input_ids"][:2] == [begin] * 2:
        text = text.removeprefix(tokenizer.bos_token)  # the engine's tokenizer adds it
    return {"text": text, "end": _end(tokenizer, turns)}


def _end(tokenizer: Any, turns: list[dict[str, str]]) -> str:
    """What the template puts after an answer: a special token, or else a line of text. Empty when that is the tokenizer's own
    end token, or nothing is to be seen.
    """
    try:
        answered = [*turns, {"role": "assistant", "content": _ANSWER}]
        text: str = tokenizer.apply_chat_template(answered, tokenize=False)
    except Exception:  # a template need not take an answer in the last place
        return ""
    _, found, after = text.rpartition(_ANSWER)
    after = after.strip() if found else ""
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    at, _, end = min(
        ((after.find(one), -len(one), one) for one in special if one in after), default=(len(after), 0, "")
    )
    if at:
        end = after[:at].split("\n", 1)[0].strip()
    return "" if end == tokenizer.eos_token else end
