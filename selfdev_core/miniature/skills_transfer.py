"""The skills of the transfer family: other kinds of problems, in words the arithmetic family does not use that way."""

from __future__ import annotations

from selfdev_core.miniature.quantities import (
    FROM_TIMES,
    SUM,
    TIMES_MORE,
    divides_then_less,
    divides_then_more,
    divides_then_times,
    fewer,
    product_inside,
    product_then_more,
    sides,
    small,
    sum_divides,
    take_two,
    three_terms,
    triple_then_less,
)
from selfdev_core.miniature.skill import Form, Skill

_AGE = Skill(
    "age",
    (
        Form(
            "{A} <is|turns> {x} <years old|today>. {B}, <the sister|the brother|a friend|a cousin>, is "
            "{y} years older."
            " How old <will {B} be|is {B}> {z} years <later|from now>?",
            three_terms,
            SUM,
        ),
        Form(
            "{A} <is|turns> {x} <years old|today>. {B}, <the sister|the brother|a friend|a cousin>, is "
            "{y} years younger."
            " How old <will {B} be|is {B}> {z} years <later|from now>?",
            fewer,
            (("x", "-", "y"), ("_", "+", "z")),
        ),
    ),
)
_SHARE = Skill(
    "share",
    (
        Form(
            "{A} <has|brings> {x} {o} and {B} <has|brings> {y}. "
            "They <share|split> them <equally|fairly> among {k} friends. How many {o} for each?",
            sum_divides,
            (("x", "+", "y"), ("_", "/", "k")),
        ),
        Form(
            "{A} <shares|splits> {m} {o} <equally|fairly> among {k} friends. "
            "Then each <finds|gets|buys> {z} more. How many {o} for each?",
            divides_then_more,
            (("m", "/", "k"), ("_", "+", "z")),
        ),
    ),
)
_WEEK = Skill(
    "week",
    (
        Form(
            "For {y} days {A} <sells|paints|counts> {x} {o} <a day|daily>, and {z} on "
            "<Sunday|Monday|Friday>. How many {o} <is that|in the week>?",
            product_then_more,
            TIMES_MORE,
        ),
        Form(
            "{A} must <sell|paint|count> {n} {o} by <Sunday|Monday|Friday>. "
            "{A} does {x} <a day|daily> for {y} days. How many {o} <are|stay> left?",
            product_inside,
            FROM_TIMES,
        ),
    ),
)
_DIFFERENCE = Skill(
    "difference",
    (
        Form(
            "{A} has {x} {o}, {B} <only|just> {y}. {A} <finds|gets|buys> {z} more. "
            "How many {o} is {A} ahead <now|at the end>?",
            fewer,
            (("x", "-", "y"), ("_", "+", "z")),
        ),
        Form(
            "{A} has {x} {o}, {B} <only|just> {y}. {A} <loses|sells|drops> {z}. "
            "How many {o} is {A} ahead <now|at the end>?",
            take_two,
            (("x", "-", "y"), ("_", "-", "z")),
        ),
    ),
)
_FENCE = Skill(
    "fence",
    (
        Form(
            "A <garden|field|yard|park> is {x} <meters|feet> long and {y} wide. "
            "How long is the <fence|wall|rope|hedge> <all around|around> <it|that {A} builds|that {A} "
            "wants>?",
            sides,
            (("x", "+", "y"), ("2", "*", "_")),
        ),
        Form(
            "A <garden|field|yard|park> is {x} <meters|feet> long and {y} wide. "
            "{A} builds a <fence|wall|hedge> <all around|around> it, with a <gate|gap> of {z}. "
            "How long is it?",
            sides,
            (("x", "+", "y"), ("2", "*", "_"), ("_", "-", "z")),
        ),
    ),
)
_TRIPLE = Skill(
    "triple",
    (
        Form(
            "{A} <has|owns|finds> {x} {o}. {B} <has|owns|finds> three times as many <as {A}|{o}>. "
            "How many {o} do they have <together|in all>?",
            small,
            (("3", "*", "x"), ("x", "+", "_")),
        ),
        Form(
            "{A} <has|owns|finds> {x} {o}. {B} has three times as many but <loses|sells|drops> {z}. "
            "How many {o} does {B} <have|keep>?",
            triple_then_less,
            (("3", "*", "x"), ("_", "-", "z")),
        ),
    ),
)
_PACK = Skill(
    "pack",
    (
        Form(
            "{A} <packs|puts> {m} {o} into <boxes|bags|baskets> of {k}. "
            "{z} of the <boxes|bags|baskets> are <sold|lost>. How many are <left|still there>?",
            divides_then_less,
            (("m", "/", "k"), ("_", "-", "z")),
        ),
        Form(
            "{A} <packs|puts> {m} {o} into <boxes|bags|baskets> of {k}, <sold|priced> at {c} dollars "
            "each. How much <money|is that> in all?",
            divides_then_times,
            (("m", "/", "k"), ("_", "*", "c")),
        ),
    ),
)
_TRAVEL = Skill(
    "travel",
    (
        Form(
            "A <bus|car|train|boat> <goes|moves|runs> {x} miles <an hour|every hour> for {y} hours, then "
            "{z} miles more. How <far|many miles> does it <go|move|run>?",
            product_then_more,
            TIMES_MORE,
        ),
        Form(
            "A <road|trip|way> is {n} miles long. A <bus|car|train|boat> <goes|moves|runs> {x} miles <an "
            "hour|every hour> for {y} hours. How <far|many miles> is <left|still to go>?",
            product_inside,
            FROM_TIMES,
        ),
    ),
)

# expert -> the skills it is trained on
EXPERT_SKILLS = {
    "alpha": (_AGE, _SHARE, _WEEK, _DIFFERENCE),
    "beta": (_FENCE, _TRIPLE, _PACK, _TRAVEL),
}
