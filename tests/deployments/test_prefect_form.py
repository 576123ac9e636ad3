"""The form that the Prefect UI makes of a campaign's settings: titles, words, bounds; and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import is_valid_schema, validate

from flows.campaign import campaign
from selfdev_core.config import CampaignConfig

MINIATURE = {"name": "m", "models": {"family": "arithmetic"}, "questions": {"family": "arithmetic"}}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    made = parameter_schema(campaign).model_dump()
    is_valid_schema(made)
    return made


def _fields(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{section}.{name}", field)
        for section, model in schema["definitions"].items()
        for name, field in model.get("properties", {}).items()
    ]


def test_every_setting_stands_in_the_form_with_its_words(schema: dict[str, Any]) -> None:
    fields = dict(_fields(schema))
    assert {f"CampaignConfig.{name}" for name in CampaignConfig.model_fields} <= set(fields)
    silent = [
        name
        for name, field in fields.items()
        if not field.get("description") and "$ref" not in str(field.get("allOf", field))
    ]
    assert silent == []


def test_bounds_and_choices_are_in_the_form(schema: dict[str, Any]) -> None:
    fields = dict(_fields(schema))
    assert fields["FactoryConfig.iterations"]["minimum"] == 1 and fields["FactoryConfig.iterations"]["maximum"] == 100
    assert fields["PreferenceConfig.p_w"]["maximum"] == 1.0
    assert fields["DpoConfig.method"]["enum"] == ["full", "lora"]
    assert fields["CampaignConfig.name"]["pattern"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": -1}, "-1"),
        ({"factory": {"iterations": 0}}, "0"),
        ({"factory": {"samplse": 3}}, "samplse"),
        ({"name": "No Capitals"}, "No Capitals"),
        ({"dpo": {"method": "lores"}}, "lores"),
    ],
)
def test_the_form_refuses_what_the_model_refuses(schema: dict[str, Any], change: dict[str, Any], named: str) -> None:
    errors = validate({"config": MINIATURE | change}, schema, raise_on_error=False)
    assert errors and named in str([error.message for error in errors])


def test_the_form_takes_a_whole_campaign_as_deploy_sends_it(schema: dict[str, Any]) -> None:
    whole = CampaignConfig.model_validate(MINIATURE).model_dump(mode="json")
    assert validate({"config": whole}, schema, raise_on_error=False) == []


def test_what_a_form_cannot_see_is_refused_by_the_run_with_the_field_named() -> None:
    bad = MINIATURE | {"preference": {"p_w": 0.8, "p_l": 0.5}}
    with pytest.raises(Exception, match=r"config\.preference.*p_w \+ p_l must be at most 1"):
        campaign.validate_parameters({"config": bad})
