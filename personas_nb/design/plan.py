"""What a model fills in when it designs: a plan, a change of one, or a question.

The fields have the names of ``DesignResult``. What cannot be asked of a model is left out (it is derived), what a
model adds of its own accord is ignored, and what it leaves out of a change stays as it was.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class PlanSection(_Part):
    """A section of the persona's own."""

    key: str = Field(min_length=1)
    label: str = ""
    content: str = ""


class PlanPrompt(_Part):
    """What the persona is told, section by section."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, alias_generator=to_camel)

    identity: str | None = None
    instructions: str | None = None
    tool_guidance: str | None = None
    examples: str | None = None
    error_handling: str | None = None
    custom_sections: list[PlanSection] | None = None


class PlanConfig(_Part):
    """The details of a trigger; which ones count depends on its type."""

    cron: str | None = Field(None, description="schedule: five fields, e.g. 0 9 * * 1-5")
    timezone: str | None = Field(None, description="schedule: IANA name; the user's zone when left out")
    interval_seconds: int | None = Field(None, ge=1, description="polling: the period")
    url: str | None = Field(None, description="polling: start only when what is there has changed")


class PlanTrigger(_Part):
    """When the persona starts by itself."""

    trigger_type: Literal["schedule", "polling", "webhook", "manual"]
    config: PlanConfig = Field(default_factory=PlanConfig)
    description: str = Field("", description="in words, e.g. every weekday at 09:00")


class PlanConnector(_Part):
    """A service that needs a credential."""

    name: str
    oauth_type: str | None = None
    credential_fields: list[str] = Field(default_factory=list)
    setup_instructions: str = ""

    @field_validator("credential_fields", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, list):  # some models describe each field
            return [each.get("key") or each.get("name") if isinstance(each, dict) else each for each in value]
        return value


class PlanChannel(_Part):
    """A way to notify the user."""

    type: Literal["slack", "telegram", "email"]
    description: str = ""
    required_connector: str | None = None


class PlanSubscription(_Part):
    """An event that starts the persona."""

    event_type: str
    source_filter: str | None = None
    description: str = ""


class PlanHighlight(_Part):
    """A few points of one kind for the user to read."""

    category: str
    items: list[str]


class PlanPatch(_Part):
    """What changes of a design; a field that is left out stays as it is."""

    name: str | None = Field(None, min_length=1, max_length=200)
    summary: str | None = Field(None, description="one paragraph for the user")
    structured_prompt: PlanPrompt | None = None
    suggested_tools: list[str] | None = None
    suggested_triggers: list[PlanTrigger] | None = None
    suggested_connectors: list[PlanConnector] | None = None
    suggested_notification_channels: list[PlanChannel] | None = None
    suggested_event_subscriptions: list[PlanSubscription] | None = None
    suggested_servers: list[str] | None = Field(None, description="names of MCP servers that the context has")
    design_highlights: list[PlanHighlight] | None = None
    flow: list[str] | None = Field(None, description="the work as three to eight boxes, in order")

    @field_validator("flow", mode="before")
    @classmethod
    def _labels(cls, value: Any) -> Any:
        if isinstance(value, dict):  # in the form that is stored: steps and edges
            return [step.get("label", "") for step in value.get("steps", []) if isinstance(step, dict)]
        return value

    def is_empty(self) -> bool:
        """Whether nothing is given at all."""
        return not self.model_dump(exclude_none=True)


class Plan(PlanPatch):
    """The whole design of one persona."""

    structured_prompt: PlanPrompt

    @field_validator("structured_prompt")
    @classmethod
    def _says_what_to_do(cls, value: PlanPrompt) -> PlanPrompt:
        if not (value.identity or "").strip() or not (value.instructions or "").strip():
            raise ValueError("identity and instructions must not be empty")
        return value


class PlanQuestion(_Part):
    """One question to the user, with two to four answers to choose from."""

    question: str = Field(min_length=1)
    options: list[str] = Field(min_length=2, max_length=4)


def read_text(text: str, wanted: type[PlanPatch]) -> PlanPatch | PlanQuestion:
    """The answer of a model that wrote its JSON as text instead of calling a tool; raises ``ValueError``.

    >>> read_text('Sure: {"summary": "Shorter."}', PlanPatch).summary
    'Shorter.'
    """
    start = text.find("{")
    if start < 0:
        raise ValueError("it has no JSON object")
    value, _end = json.JSONDecoder().raw_decode(text[start:])
    try:
        if "question" in value:
            return PlanQuestion.model_validate(value)
        found = wanted.model_validate(value)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ValueError(problems) from None
    if found.is_empty():
        raise ValueError("it has none of the fields")
    return found
