"""What rules can do with what a design was given to look at: say to the persona what there is.

A model reads the texts and works them in. Rules do not understand them; they hand on what is certain: an API's
address and operations, the names of MCP servers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from personas_nb.design.context import ContextText
from personas_nb.design.designer import DesignAnswer, Designer, DesignRequest, markdown_of
from personas_nb.entities.design import DesignResult
from personas_nb.entities.structured_prompt import CustomSection

KEY, LABEL = "material", "What you work with"
LINES_MAX = 40


class Informed:
    """A designer that asks another one, and adds what the material says for certain to its first design."""

    def __init__(self, designer: Designer) -> None:
        self._designer = designer
        self.provider = designer.provider
        self.model = designer.model

    async def design(self, request: DesignRequest) -> DesignAnswer:
        """The other one's answer, with the material."""
        answer = await self._designer.design(request)
        if answer.result is None or request.previous is not None:
            return answer
        return replace(answer, result=informed(answer.result, request.context, request))


def informed(result: DesignResult, context: Sequence[ContextText], request: DesignRequest) -> DesignResult:
    """The design with a section on the APIs and servers of the context; as it was where there are none."""
    parts = [_part(text) for text in context if text.kind in ("openapi", "mcp")]
    if not parts:
        return result
    section = CustomSection(key=KEY, label=LABEL, content="\n\n".join(parts))
    prompt = result.structured_prompt.changed(
        custom_sections=(*result.structured_prompt.custom_sections, section)
    )
    tools = list(result.suggested_tools)
    has_request = any(tool.name == "http_request" for tool in request.tools)
    if any(text.kind == "openapi" for text in context) and has_request and "http_request" not in tools:
        tools.append("http_request")
        line = "- http_request: call the API's operations below, at its server's address."
        prompt = prompt.changed(tool_guidance=f"{prompt.tool_guidance}\n{line}".strip())
    return result.changed(
        structured_prompt=prompt, full_prompt_markdown=markdown_of(prompt), suggested_tools=tuple(tools)
    )


def _part(text: ContextText) -> str:
    lines = text.text.splitlines()
    left_out = len(lines) - LINES_MAX
    more = [f"… and {left_out} more lines of {text.name}"] if left_out > 0 else []
    return "\n".join([*lines[:LINES_MAX], *more])
