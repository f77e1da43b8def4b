"""pydantic-ai's models as we build them: the same as its own, with less work for each request."""

from __future__ import annotations

from typing import Any

import pytest

from personas_nb.engine.model_clients import TOOL_SETS_KEPT, ModelClients
from personas_nb.engine.models import ResolvedModel
from personas_nb.entities.model_profile import Provider


def parameters_with(*schemas: dict[str, Any]) -> Any:
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.tools import ToolDefinition

    tools = [ToolDefinition(name=f"t{n}", parameters_json_schema=schema) for n, schema in enumerate(schemas)]
    return ModelRequestParameters(function_tools=tools)


@pytest.mark.parametrize("provider", ["anthropic", "custom", "ollama"])
def test_schemas_are_fitted_as_the_model_itself_would_and_once(provider: Provider):
    schema = {"type": "object", "title": "T", "properties": {"a": {"type": "string", "title": "A"}}}
    resolved = ResolvedModel(provider=provider, model="m", base_url="http://127.0.0.1:9", secret="k" * 9)
    model = ModelClients().build(resolved)
    first, again = (model.customize_request_parameters(parameters_with(schema)) for _ in range(2))
    assert first == type(model).customize_request_parameters(model, parameters_with(schema))
    assert again == first
    assert again.function_tools[0] is first.function_tools[0]


def test_other_schemas_are_fitted_anew():
    model = ModelClients().build(
        ResolvedModel(provider="custom", model="m", base_url="http://127.0.0.1:9", secret="k" * 9)
    )
    for number in range(2 * TOOL_SETS_KEPT):
        schema = {"type": "object", "properties": {f"a{number}": {"type": "string"}}}
        (tool,) = model.customize_request_parameters(parameters_with(schema)).function_tools
        assert list(tool.parameters_json_schema["properties"]) == [f"a{number}"]
