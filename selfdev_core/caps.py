"""The section `budget` of the configuration: caps on the search, and what an hour costs."""

from __future__ import annotations

from pydantic import Field

from selfdev_core.section import Section


class BudgetConfig(Section):
    """Caps on the search. Nothing here changes a score or is part of a cache key; raise a cap and run again to go on.

    A campaign always does one iteration. At a cap it begins no further one, makes controls, finalists, transfers and report
    from what there is (which comes on top of the cap), and says so.
    """

    wall_hours: float | None = Field(
        None, gt=0.0, description="No iteration begins once the campaign has run for so long, all its runs together."
    )
    device_hours: float | None = Field(
        None, gt=0.0, description="No iteration begins once its workers have been busy for so long, all together."
    )
    programs: int | None = Field(
        None, ge=1, description="Programs drawn, both arms together; no iteration begins that would draw more."
    )
    tokens: int | None = Field(
        None, ge=1, description="No iteration begins once so many tokens were sampled in programs and search answers."
    )
    price_per_device_hour: float | None = Field(
        None, ge=0.0, description="What an hour of a busy worker costs; `selfdev cost` turns it into money."
    )
    currency: str = Field("USD", min_length=1, max_length=8, description="Of the price.")
