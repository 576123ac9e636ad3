"""Prompts: worked examples before the question, as plain text or as turns of the seed's chat template.

The chat template is a Jinja program out of a checkpoint, so it is rendered in a process that is killed at a deadline
(chat.py). It is rendered once, with `{question}` in the last turn: what comes back is the prompt of every question.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

from selfdev_core.asking import Chat
from selfdev_core.errors import ConfigError
from selfdev_core.starting import command

_SECONDS = 180.0
_MARK = "{question}"
Shot = tuple[str, str]
"""A worked example: question, answer."""


class Finished(NamedTuple):
    """A whole prompt with `{question}` in it; `ends`: how a chat template ends an answer, unless by the tokenizer's end token."""

    text: str
    ends: tuple[str, ...] = ()


def finished_template(template: str, shots: list[Shot], chat: Chat, seed: Path) -> Finished:
    """The prompt of every question. `seed` is the folder of the model whose chat template is used.

    Plain: the examples as the template and a space and the answer, with an empty line between. Chat: each example is a turn of
    the user and one of the assistant; a beginning-of-text token that the tokenizer will add itself is left out.
    Raises: ConfigError when chat is on and there is no chat template, or the template cannot be rendered.
    """
    asked = [template.replace(_MARK, question) for question, _ in shots]
    if chat == "on" and not has_chat_template(seed):
        raise ConfigError(f"questions.chat: on, but {seed} has no chat template; use auto or off")
    if chat == "off" or not has_chat_template(seed):
        worked = [f"{question} {answer}" for question, (_, answer) in zip(asked, shots, strict=True)]
        return Finished("\n\n".join([*worked, template]))
    turns = []
    for question, (_, answer) in zip(asked, shots, strict=True):
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return _rendered(seed, [*turns, {"role": "user", "content": template}])


def uses_chat(chat: Chat, seed: Path) -> bool:
    """Whether questions are asked through the chat template of the model in this folder."""
    return chat != "off" and has_chat_template(seed)


def has_chat_template(folder: Path) -> bool:
    """Whether a checkpoint's tokenizer has a chat template, told from its files."""
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and bool(config.get("chat_template"))


def _rendered(seed: Path, turns: list[dict[str, str]]) -> Finished:
    asked = json.dumps({"folder": str(seed), "turns": turns})
    try:
        done = subprocess.run(
            command("selfdev_core.evaluation.chat"), input=asked.encode(), capture_output=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"questions.chat: the chat template of {seed} was not rendered within {_SECONDS:.0f} s; use chat: off"
        ) from None
    try:
        reply = json.loads(done.stdout)
    except ValueError:
        told = done.stderr.decode(errors="replace").strip().rsplit("\n", 1)[-1]
        raise ConfigError(f"questions.chat: {seed}: its tokenizer cannot be loaded: {told[:300]}") from None
    if "error" in reply:
        raise ConfigError(
            f"questions.chat: the chat template of {seed} cannot be rendered: {reply['error']}; use chat: off"
        )
    text = str(reply["text"])
    if _MARK not in text:
        raise ConfigError(f"questions.chat: the chat template of {seed} leaves out what the user says; use chat: off")
    return Finished(text, tuple(filter(None, [str(reply["end"])])))
