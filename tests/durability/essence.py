"""What two campaigns must have in common, byte for byte: programs, verdicts, scores, pairs, weights, winner.

Taken from the stored records and result.json, as text. Left out, because they are times and nothing else: the fields
named in `TIMES`. Left out too: the store's address in the configuration, the notes of what a campaign refers to, the
report (drawn from result.json), and the keys of iteration records (digests of content that holds seconds).
"""

from __future__ import annotations

import json
from typing import Any

from tests.durability.place import NAME, Place

TIMES = frozenset({"seconds", "started_at", "ended_at", "when"})
KEPT = ("generated", "verdicts", "scorecards", "trained", "checkpoints", "task-results", "questions")
KEYED_BY_TIME = ("iterations", "openings")

Essence = dict[str, str]


def essence(place: Place) -> Essence:
    """Name → text. Equal for two campaigns exactly if they found the same."""
    found: Essence = {}
    for name, data in place.objects().items():
        kind = name.split("/")[1]
        text = _text(json.loads(data)["body"])
        if kind in KEPT:
            found[name] = text
        elif kind in KEYED_BY_TIME:
            found[f"{kind} {text}"] = text
    found |= {name: "" for name in place.objects("blobs")}
    result = json.loads((place.home / "campaigns" / NAME / "result.json").read_text(encoding="utf-8"))
    result["config"].pop("store")
    found["result.json"] = _text(result)
    return found


def differences(ours: Essence, theirs: Essence) -> list[str]:
    """Names that only one of them has, or whose content differs."""
    return sorted(name[:120] for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def _text(value: Any) -> str:
    return json.dumps(_timeless(value), sort_keys=True)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if key not in TIMES}
    return [_timeless(one) for one in value] if isinstance(value, list) else value
