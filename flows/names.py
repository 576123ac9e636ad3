"""Names that the Prefect server knows us by: flows, tags, limits, automations, events. Each stands here once."""

from __future__ import annotations

FLOW = "campaign"
TAG = "selfdev"
POOL = "selfdev"
CRASH_AUTOMATION = "selfdev: silent runs are crashed"
LEFT = "selfdev.campaign.left"  # a suspended campaign's process ended
SOUGHT = "selfdev.campaign.sought"  # a running campaign is asked for a sign of life
BEAT_SECONDS = 30  # Prefect's shortest
SILENCE_SECONDS = 75  # two beats missed, and fifteen seconds of grace


def campaign_tags(campaign: str) -> tuple[str, ...]:
    """On every run of a campaign: deployments, flow runs, task runs."""
    return (TAG, f"campaign:{campaign}")


def iteration_tags(arm: str, iteration: int) -> tuple[str, ...]:
    return (f"arm:{arm}", f"iteration:{iteration}")


def transfer_tags(target: str) -> tuple[str, ...]:
    return (f"transfer:{target}",)
