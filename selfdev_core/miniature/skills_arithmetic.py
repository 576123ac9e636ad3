"""The skills of the arithmetic family: everyday sums over things people have, make, buy and give away."""

from __future__ import annotations

from selfdev_core.miniature.quantities import (
    FROM_TIMES,
    SUM,
    TIMES_LESS,
    TIMES_MORE,
    double_then_less,
    even_then_less,
    even_then_more,
    fewer,
    product_inside,
    product_then_less,
    product_then_more,
    take_two,
    three_terms,
)
from selfdev_core.miniature.skill import Form, Skill

_ADD = Skill(
    "add",
    (
        Form(
            "{A} has {x} {o}. {B} <gives {A}|hands {A}|brings> {y} more. "
            "<Then|Later|Today> {A} <finds|buys|gets> {z} <more|others>."
            " How many {o} does {A} have <now|in all>?",
            three_terms,
            SUM,
        ),
        Form(
            "{A} <has|owns> {x} {o}, {B} <has|owns> {y} and {C} {z}. "
            "How many {o} do they <have|own> <together|in all>?",
            three_terms,
            SUM,
        ),
    ),
)
_MULTIPLY = Skill(
    "multiply",
    (
        Form(
            "There are {x} <boxes|bags|baskets> <with|holding> {y} {o} in each. "
            "{A} <adds|brings|finds> {z} more."
            " How many {o} are there <now|in all>?",
            product_then_more,
            TIMES_MORE,
        ),
        Form(
            "{A} <has|owns> {x} <boxes|bags|baskets> of {y} {o}. {A} <loses|sells> {z} of them. "
            "How many {o} are <left|still there>?",
            product_then_less,
            TIMES_LESS,
        ),
    ),
)
_COMPARE = Skill(
    "compare",
    (
        Form(
            "{A} <has|owns|finds> {x} {o}. {B} <has|owns|finds> {y} more than {A}. "
            "How many {o} do they have <together|in all>?",
            three_terms,
            (("x", "+", "y"), ("x", "+", "_")),
        ),
        Form(
            "{A} <has|owns|finds> {x} {o}. {B} <has|owns|finds> {y} fewer than {A}. "
            "How many {o} do they have <together|in all>?",
            fewer,
            (("x", "-", "y"), ("x", "+", "_")),
        ),
    ),
)
_HALVE = Skill(
    "halve",
    (
        Form(
            "{A} <has|owns> {e} {o} and <gives|hands|sells> half to {B}. "
            "<Then|Later|Today> {A} <finds|buys|gets> {z}."
            " How many {o} does {A} have <now|in all>?",
            even_then_more,
            (("e", "/", "2"), ("_", "+", "z")),
        ),
        Form(
            "Half of the {e} {o} are <red|new|old>. {A} <takes|sells|loses> {z} of the <red|new|old> "
            "ones. How many are <left|still there>?",
            even_then_less,
            (("e", "/", "2"), ("_", "-", "z")),
        ),
    ),
)
_SUBTRACT = Skill(
    "subtract",
    (
        Form(
            "{A} <has|owns> {x} {o}. {A} <loses|sells|drops> {y} and <gives|hands> {z} to {B}. "
            "How many {o} <are left|does {A} keep>?",
            take_two,
            (("x", "-", "y"), ("_", "-", "z")),
        ),
        Form(
            "{x} {o} <lie|are> in a <box|bag|basket>. {A} takes {y} out and {B} <puts|drops> {z} in. "
            "How many {o} are <inside|there now>?",
            fewer,
            (("x", "-", "y"), ("_", "+", "z")),
        ),
    ),
)
_RATE = Skill(
    "rate",
    (
        Form(
            "{A} <makes|picks|packs> {x} {o} <an hour|every hour|a day>. "
            "After {y} <hours|days> {A} <gives away|sells> {z}."
            " How many {o} are left?",
            product_then_less,
            TIMES_LESS,
        ),
        Form(
            "{A} <makes|picks|packs> {x} {o} <an hour|every hour|a day> for {y} <hours|days>. "
            "{B} <makes|picks|packs> {z}."
            " How many {o} is that <together|in all>?",
            product_then_more,
            TIMES_MORE,
        ),
    ),
)
_TWICE = Skill(
    "twice",
    (
        Form(
            "{A} <has|owns|finds> {x} {o}. {B} <has|owns|finds> twice as many <as {A}|{o}>. "
            "How many {o} do they have <together|in all>?",
            three_terms,
            (("2", "*", "x"), ("x", "+", "_")),
        ),
        Form(
            "{A} <has|owns|finds> {x} {o}. {B} has twice as many but <loses|sells|drops> {z}. "
            "How many {o} does {B} <have|keep>?",
            double_then_less,
            (("2", "*", "x"), ("_", "-", "z")),
        ),
    ),
)
_PRICE = Skill(
    "price",
    (
        Form(
            "{A} <buys|takes|orders> {x} {o} <at|for> {y} dollars each and <pays with|hands over> {n} "
            "dollars. How much <change|money> comes back?",
            product_inside,
            FROM_TIMES,
        ),
        Form(
            "{A} <buys|takes|orders> {x} {o} <at|for> {y} dollars each and a <hat|bag|box> for {z} "
            "dollars. How much does {A} <pay|spend>?",
            product_then_more,
            TIMES_MORE,
        ),
    ),
)

# expert -> the skills it is trained on
EXPERT_SKILLS = {
    "alpha": (_ADD, _SUBTRACT, _COMPARE, _TWICE),
    "beta": (_MULTIPLY, _RATE, _PRICE, _HALVE),
}
