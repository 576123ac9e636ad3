"""How a benchmark's train and test parts are cut into search, validation, test and worked examples.

| rule | search | validation | worked examples | test |
|---|---|---|---|---|
| honest | train | train | train | test |
| paper | test | train | train | the rest of test |
| test-only | test | test | test | the rest of test |

Rows are put into an order of their own, by the digest of the question. So the same questions fall into the same split whatever
the campaign's seed, wherever the files come from and however they are sorted, and no repetition of a campaign searches on what
another one was tested on. The paper draws its search questions evenly over subjects (100 from each of six; MATH has
seven, and which six is not known): with rule paper ours are drawn evenly over all subjects that the rows name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from typing import NamedTuple

from selfdev_core.asking import SplitRule
from selfdev_core.errors import ConfigError
from selfdev_core.evaluation.benchmarks import Row


class Cut(NamedTuple):
    """A benchmark's splits, all disjoint by question; `test` is everything that is left for it."""

    search: list[Row]
    validation: list[Row]
    shots: list[Row]
    test: list[Row]


def cut(rule: SplitRule, train: Sequence[Row], test: Sequence[Row], search: int, validation: int, shots: int) -> Cut:
    """Cut by a rule. Raises: ConfigError when a part that the rule needs is missing or too small."""
    if not test:
        raise ConfigError("questions.path: holds no test part; add it")
    asked, rest = in_order(test), train_only(train, test)
    if not rest and rule != "test-only":
        raise ConfigError(
            f"questions.split_rule: {rule} takes questions from the train part, and there is none; add it (train.jsonl or "
            "train.parquet beside test), or use split_rule: test-only"
        )
    if rule == "test-only":
        found, own, rest = _take(asked, search, validation, shots, "test")
        return Cut(found, own, rest[len(rest) - shots :], rest[: len(rest) - shots])
    if rule == "paper":
        if search >= len(asked):
            raise ConfigError(
                f"questions.search: {search} would leave nothing of {len(asked)} test questions; lower it"
            )
        found = list(_evenly(asked))[:search]
        taken = {row.question for row in found}
        _, own, left = _take(rest, 0, validation, shots, "train")
        return Cut(found, own, left[len(left) - shots :], [row for row in asked if row.question not in taken])
    found, own, left = _take(rest, search, validation, shots, "train")
    return Cut(found, own, left[len(left) - shots :], asked)


def train_only(train: Iterable[Row], test: Iterable[Row]) -> list[Row]:
    """The train rows in order, without those that some datasets repeat in test."""
    known = {row.question for row in test}
    return [row for row in in_order(train) if row.question not in known]


def worked_examples(train: Sequence[Row], test: Iterable[Row], shots: int) -> list[Row]:
    """The last train rows in order, which no split asks under the rules honest and paper.

    Raises: ConfigError when the train part is too small.
    """
    rest = train_only(train, test)
    if shots > len(rest):
        raise ConfigError(
            f"questions.shots: {shots} worked examples come from the train part, which holds {len(rest)}; add it beside test, or "
            "ask for fewer (0: none)"
        )
    return rest[len(rest) - shots :]


def in_order(rows: Iterable[Row]) -> list[Row]:
    """The rows by the digest of their question, each question once."""
    once = {row.question: row for row in reversed(list(rows))}
    return sorted(once.values(), key=lambda row: hashlib.sha256(row.question.encode("utf-8", "surrogatepass")).digest())


def _take(
    rows: list[Row], search: int, validation: int, shots: int, part: str
) -> tuple[list[Row], list[Row], list[Row]]:
    """Search from the beginning, validation after it, and the rest, which the worked examples end."""
    if search + validation + shots > len(rows):
        raise ConfigError(
            f"questions: search, validation and worked examples ask for {search + validation + shots} questions of the {part} "
            f"part, which holds {len(rows)}; lower questions.search or questions.validation"
        )
    return rows[:search], rows[search : search + validation], rows[search + validation :]


def _evenly(rows: list[Row]) -> Iterable[Row]:
    """One row of each group in turn, as long as it lasts; without groups the rows as they are."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    turns = zip_longest(*(groups[name] for name in sorted(groups)))
    return (row for row in chain.from_iterable(turns) if row is not None)
