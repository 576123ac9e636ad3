"""How the report writes numbers and foreign text, so that every figure on the page is rounded by one rule."""

from __future__ import annotations

import unicodedata

from selfdev_core.result import Interval


def percent(share: float, digits: int = 1) -> str:
    """0.4136 → `41.4 %`, with a no-break space."""
    return f"{_fixed(100 * share, digits, sign=False)}\N{NO-BREAK SPACE}%"


def points(difference: float) -> str:
    """A difference of shares, signed: 0.0523 → `+5.2`. A difference that is not 0 never reads as 0."""
    return _fixed(100 * difference, 1, sign=True)


def size(difference: float) -> str:
    """A difference of shares without its sign: −0.0523 → `5.2 points`."""
    text = _fixed(abs(100 * difference), 1, sign=False)
    return f"{text} {'point' if text == '1.0' else 'points'}"


def bounds(interval: Interval, difference: bool = False) -> str:
    """`[40.1, 44.8]`, in percent or, for a difference, in signed points."""
    return f"[{_fixed(100 * interval.low, 1, difference)}, {_fixed(100 * interval.high, 1, difference)}]"


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def count(number: int) -> str:
    """12345 → `12,345`."""
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """`1 program`, `12 programs`."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{count(number)} times")


def duration(seconds: float) -> str:
    """Seconds in the two largest units that matter: `0.4 s`, `48 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def listed(names: list[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def moment(iso: str) -> str:
    """`2026-11-20T22:58:01+00:00` → `2026-11-20 22:58 UTC`; text of another form is left as it is."""
    from datetime import UTC, datetime

    try:
        found = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return (found if found.tzinfo is None else found.astimezone(UTC)).strftime("%Y-%m-%d %H:%M UTC")


def visible(text: str) -> str:
    """Foreign text with every character that could hide or reorder something written out, e.g. `⟨U+202E⟩`.

    Covers control characters (less tab and line feed), bidirectional and zero-width formats, line separators and lone
    surrogates (Boucher and Anderson, Trojan Source, 2021).
    """
    return "".join(
        f"⟨U+{ord(char):04X}⟩"
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in "\t\n"
        else char
        for char in text.replace("\r\n", "\n")
    )


def short(text: str, limit: int = 80) -> str:
    """One line of foreign text, at most `limit` characters."""
    line = " ".join(visible(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _fixed(value: float, digits: int, sign: bool) -> str:
    shown = f"{value:.{digits}f}"
    if float(shown) == 0 and value != 0:
        shown = f"{value:.{digits + 1}f}"
        if float(shown) == 0:
            shown = f"{value:.{digits}f}"
    if float(shown) == 0:
        return shown.lstrip("-")
    return f"{'+' if sign and value > 0 else ''}{shown}".replace("-", "−")
