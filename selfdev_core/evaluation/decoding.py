"""How questions are asked, answered and graded: part of every evaluation's key."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from selfdev_core.evaluation.graders.spec import GraderSpec
from selfdev_core.records import Record


def default_engine(key: str) -> bool:
    return not key


class Decoding(Record):
    """How questions are asked, answered (greedily) and graded.

    `template` is the finished prompt, with worked examples and chat template in it and `{question}` where the question stands:
    whatever changes what a model is asked changes this text. `stop`: texts at which an answer ends. `engine`: as
    `engines.choose.key_of`; the default one leaves no trace in keys.
    """

    template: str
    stop: tuple[str, ...] = ()
    max_new_tokens: int
    batch_size: int
    grader: GraderSpec
    engine: str = Field("", exclude_if=default_engine)

    def prompt(self, question: str) -> str:
        """The whole text that a model continues."""
        return self.template.replace("{question}", question)

    def answer(self, text: str) -> str:
        """What a model wrote, up to the first stop."""
        return cut_at(text, self.stop)


def cut_at(text: str, stops: Iterable[str]) -> str:
    """The text up to the first of the stops."""
    for stop in stops:
        text = text.split(stop, 1)[0]
    return text
