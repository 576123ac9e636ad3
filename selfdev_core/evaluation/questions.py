"""Questions of a split, kept by content in the store. Where they come from is sources.py's affair, which no stage may know."""

from __future__ import annotations

from selfdev_core.records import QuestionSet, Record, Split
from selfdev_core.store.artifacts import ArtifactStore


class QuestionItem(Record):
    question: str
    answer: str


class QuestionBlock(Record):
    """All questions of one split of a campaign."""

    split: Split
    items: tuple[QuestionItem, ...]


def set_of(block: QuestionBlock) -> QuestionSet:
    """The reference to a block that evaluation keys hold."""
    return QuestionSet(split=block.split, sha256=block.digest, count=len(block.items))


def store_questions(store: ArtifactStore, block: QuestionBlock) -> QuestionSet:
    """Put a split into the store and return the reference to it."""
    reference = set_of(block)
    store.write("questions", reference.sha256, block)
    return reference
