"""What a hostile program is: its source, the harm it does when nothing holds it, and the verdicts that are right.

Sources are templates: `@T@` becomes a dict of targets (paths, ports, process ids; see `world.py`). A source never holds a
secret, only the places where an attacker would look for one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Harm = Literal[
    "reads",  # carries a secret out in the merged tensor or in the detail of the verdict
    "writes",  # changes a file outside
    "talks",  # reaches a listener outside
    "touches",  # signals or changes a process outside
    "outlives",  # leaves a process behind
    "lingers",  # changes what the next program computes
    "reaches",  # gets a power it must not have; says so by carrying the proof out like a secret
    "stalls",  # does not end by itself
    "crashes",  # takes its process down
    "breaks",  # hands over something that the contract forbids
]
Control = Literal["anyone", "root", "never"]

HELD = frozenset({"exception"})  # the call that would do harm fails
ALIVE = frozenset({"accepted"})  # what it does is harmless here, and its result keeps the contract
STOPPED = frozenset({"time-limit"})
TOO_BIG = frozenset({"memory-limit"})


class Hostile(NamedTuple):
    """One hostile program.

    `reasons`: the right verdicts at a level that claims to prevent `harm`.
    `control`: who can see the harm done when the program runs in a plain process (the positive control that proves the
    attack is not a dud); "never" where that would endanger the machine, or where there is no harm to see outside a jail.
    `passes_check`: it gets past the check of the text, as programs written by an attacker who knows that check would.
    """

    name: str
    source: str
    harm: Harm
    reasons: frozenset[str]
    control: Control = "anyone"
    passes_check: bool = True


# Reaches what it needs through modules that torch itself imported: no forbidden import statement.
PRELUDE = '''\
import torch
T = @T@
os, sys, ctypes = torch.os, torch.sys, torch.ctypes
PROOF = T["proof"].encode()

def load(name):
    return torch.importlib.import_module(name)

def syscall(number, *arguments):
    """Raises OSError as the functions of `os` do."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if type(a) is int else a for a in arguments])
    if found == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found

def secret_in(data):
    """Secrets of this machine begin with CANARY-, as keys elsewhere begin with AKIA or sk-."""
    at = bytes(data).find(b"CANARY-")
    return bytes(data)[at : at + 48] if at >= 0 else b""

TAKEN = []

def merge_models(model_dict, device):
    if not TAKEN:
        TAKEN.append(attack(model_dict) or b"")
    merged = 0.5 * sum(model_dict.values())
    if len(TAKEN[0]) <= merged.numel():
        merged.view(-1)[: len(TAKEN[0])] = torch.tensor(list(TAKEN[0]), dtype=torch.float32)
    return merged
'''


def attack(name: str, harm: Harm, body: str, reasons: frozenset[str] = HELD, control: Control = "anyone") -> Hostile:
    """A program that runs `attack(model_dict)`, the body, and carries the bytes it returns out in its first tensor."""
    indented = "".join(f"    {line}\n" if line else "\n" for line in body.strip("\n").split("\n"))
    return Hostile(name, f"{PRELUDE}\ndef attack(model_dict):\n{indented}", harm, reasons, control)


def merging(
    name: str,
    body: str,
    reasons: frozenset[str],
    harm: Harm = "breaks",
    before: str = "",
    control: Control = "never",
) -> Hostile:
    """A program whose `merge_models` is the body; `v` is the first expert's task vector."""
    indented = "".join(f"    {line}\n" if line else "\n" for line in body.strip("\n").split("\n"))
    head = f"import torch\n{before}\ndef merge_models(model_dict, device):\n    v = next(iter(model_dict.values()))\n"
    return Hostile(name, head + indented, harm, reasons, control)


def text(name: str, source: str, reasons: frozenset[str], harm: Harm = "breaks", passes_check: bool = False) -> Hostile:
    """A program as it stands."""
    return Hostile(name, source, harm, reasons, "never", passes_check)
