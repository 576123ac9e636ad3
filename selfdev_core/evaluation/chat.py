"""Renders a checkpoint's chat template in a process of its own. Started by prompts.py; JSON in, JSON out."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main() -> None:
    """Read `{"folder", "turns"}`; write `{"text"}` or `{"error"}`."""
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed is no answer
    asked = json.load(sys.stdin)
    try:
        reply = {"text": _text(asked["folder"], asked["turns"])}
    except Exception as error:
        reply = {"error": f"{type(error).__name__}: {error}"[:500]}
    json.dump(reply, out)
    out.close()


def _text(folder: str, turns: list[dict[str, str]]) -> str:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    begin = tokenizer.bos_token_id
    if begin is not None and text.startswith(tokenizer.bos_token) and tokenizer(text)["input_ids"][:2] == [begin] * 2:
        text = text.removeprefix(tokenizer.bos_token)  # the engine's tokenizer adds it
    return text
