"""Nodes that think: they and what hangs on them (model, memory, tools, parsers) become the persona itself.

What a system message says is the author's text: the step quotes it as a text of its own, never as a line of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from personas_nb.design.formats.n8n.document import Node
from personas_nb.design.formats.n8n.expressions import value_words
from personas_nb.design.formats.n8n.nodes import Step, long_text, mark, parameter, shifted
from personas_nb.design.formats.n8n.text import code, humanised, listed, plain
from personas_nb.entities.base import made
from personas_nb.entities.model_profile import ModelProfile
from personas_nb.errors import InvalidInput

MAX_TOOLS = 40
_THINKING = frozenset(
    ("agent", "agentTool", "chainLlm", "chainRetrievalQa", "chainSummarization", "informationExtractor",
     "textClassifier", "sentimentAnalysis", "openAi", "openAiAssistant", "memoryManager", "anthropic",
     "googleGemini", "ollama", "guardrails", "openAiTool")
)  # fmt: skip
_ROLES = {
    "ai_languageModel": "model",
    "ai_memory": "memory",
    "ai_tool": "tool",
    "ai_outputParser": "form of the answer",
    "ai_embedding": "embedding",
    "ai_vectorStore": "vector store",
    "ai_document": "document loader",
    "ai_textSplitter": "text splitter",
    "ai_retriever": "retriever",
    "ai_agent": "agent",
    "ai_chain": "chain",
    "ai_reranker": "reranker",
}
# Official addresses that speak the chat API of OpenAI; none comes from a file.
_ADDRESSES = {
    "OpenAi": "https://api.openai.com/v1",
    "OpenRouter": "https://openrouter.ai/api/v1",
    "Groq": "https://api.groq.com/openai/v1",
    "DeepSeek": "https://api.deepseek.com/v1",
    "MistralCloud": "https://api.mistral.ai/v1",
    "XAiGrok": "https://api.x.ai/v1",
    "GoogleGemini": "https://generativelanguage.googleapis.com/v1beta/openai",
    "Cohere": "https://api.cohere.ai/compatibility/v1",
    "VercelAiGateway": "https://ai-gateway.vercel.sh/v1",
}
_DEFAULT_MODELS = {"OpenAi": "gpt-4o-mini", "DeepSeek": "deepseek-chat", "GoogleGemini": "gemini-2.5-flash"}


def is_agent(node: Node) -> bool:
    """Whether the node asks a model by itself, so that the persona takes its place."""
    if not node.is_core or node.kind not in _THINKING:
        return False
    if node.kind in ("openAi", "anthropic", "googleGemini", "ollama", "openAiTool"):
        return node.text("resource") in ("", "text", "chat", "conversation", "assistant", "message")
    return True


def role_of(kind: str) -> str:
    """What a sub-node is to the node that it hangs on.

    >>> role_of("ai_languageModel")
    'the model'
    """
    role = _ROLES.get(kind) or humanised(kind.removeprefix("ai_"))
    article = (
        "the"
        if kind in ("ai_languageModel", "ai_memory", "ai_outputParser")
        else "a"
        if role[:1] not in "aeiou"
        else "an"
    )
    return f"{article} {role}"


Attached = Sequence[tuple[str, Node]]
"""The sub-nodes of a node, each with the kind of its connection."""


def thinking_step(node: Node, attached: Attached, tool_steps: Sequence[tuple[Node, Step]]) -> Step:
    """The node as a step that the persona does itself; ``tool_steps`` are its tools, described."""
    texts: list[tuple[str, str]] = []
    words = [_task(node, texts)]
    for title, text in _prompts(node):
        texts.append((title, text))
        words.append(f"The {title} of its author is text {mark(len(texts) - 1)}.")
    for _, sub in attached:
        if shape := _shape(sub):
            texts.append(("form of the answer", shape))
            words.append(f"Answer in the form of text {mark(len(texts) - 1)}.")
    if any(kind == "ai_memory" for kind, _ in attached):
        words.append("Remember with agent_memory what the next run should know.")
    tools: list[str] = []
    connectors: list[str] = []
    lines: list[str] = []
    for tool, step in tool_steps:
        said = shifted(step.words, len(texts))
        texts += [(f"{title} of {code(tool.name, 60)}, a tool", text) for title, text in step.texts]
        about = tool.text("toolDescription") or tool.text("description")
        when = f" (when: {code(long_text(about, 400), 300)})" if about else ""
        below = said.replace("\n", "\n  ")  # the tools of an agent that is a tool
        lines.append(f"   - {code(tool.name)}{when}: {below}")
        tools += step.tools
        connectors += step.connectors
    if lines:
        words.append("You may use, as often as the task needs it:\n" + "\n".join(lines))
    return Step(
        " ".join(words),
        "absorbed",
        _reason(attached, bool(texts)),
        tuple(dict.fromkeys(tools)),
        tuple(dict.fromkeys(connectors)),
        texts,
        kind="agent",
    )


def _reason(attached: Attached, has_texts: bool) -> str:
    roles = [f"{role_of(kind).partition(' ')[2]} {code(sub.name, 60)}" for kind, sub in attached[:8]]
    with_what = f" with its {listed(roles)}" if roles else ""
    read = (
        " Its texts are quoted in the prompt: read them before you enable the persona." if has_texts else ""
    )
    return f"The persona itself does this{with_what}.{read}"


def _task(node: Node, texts: list[tuple[str, str]]) -> str:
    """What the node is to do, in a sentence; longer tasks become a text."""
    match node.kind:
        case "textClassifier":
            names = [_category(item) for item in node.items("categories", "categories")[:30]]
            into = "; ".join(names) or "the categories you are given"
            return f"Sort {_subject(node, 'inputText')} into one of: {into}."
        case "sentimentAnalysis":
            return f"Tell the sentiment of {_subject(node, 'inputText')}."
        case "informationExtractor":
            names = [_attribute(item) for item in node.items("attributes", "attributes")[:40]]
            shape = node.text("jsonSchemaExample") or node.text("inputSchema")
            if shape and not names:
                texts.append(("form of the answer", long_text(shape, 3_000)))
                asked = f"what text {mark(len(texts) - 1)} asks for"
                return f"Take out of {_subject(node, 'text')} {asked}, and invent nothing."
            return f"Take out of {_subject(node, 'text')}: {'; '.join(names) or 'what is asked for'}; invent nothing."
        case "chainSummarization":
            return "Summarise what you have."
        case "chainRetrievalQa":
            return f"Answer {_subject(node, 'text')} from the documents only; say when they do not tell."
        case "memoryManager":
            return "Look at what you remember, and keep what matters with agent_memory."
        case "guardrails":
            return "Check that the text keeps to the rules; choose what holds."
    text = node.text("text") or node.text("prompt")
    if len(text) > 160 or "\n" in text.strip():
        texts.append(("task", long_text(text)))
        return f"Do yourself what text {mark(len(texts) - 1)} asks."
    return f"Do this yourself: {value_words(text)}." if text.strip("= ") else "Answer the input yourself."


def _subject(node: Node, name: str) -> str:
    return parameter(node, name) or "the item"


def _category(item: dict[str, Any]) -> str:
    about = item.get("description")
    named = code(item.get("category", ""), 60)
    return f"{named} ({code(about, 160)})" if isinstance(about, str) and about else named


def _attribute(item: dict[str, Any]) -> str:
    about = item.get("description")
    named = code(item.get("name", ""), 60)
    return f"{named} ({code(about, 160)})" if isinstance(about, str) and about else named


_SYSTEM_PATHS = (
    ("options", "systemMessage"),
    ("options", "systemPromptTemplate"),
    ("options", "systemPrompt"),
    ("systemMessage",),
)


def _prompts(node: Node) -> list[tuple[str, str]]:
    """The author's system messages and examples."""
    found = [("system message", text) for path in _SYSTEM_PATHS if (text := node.text(*path))]
    for path in (
        ("messages", "messageValues"),
        ("messages", "values"),
        ("messages", "message"),
        ("prompt", "messages"),
        ("responses", "values"),
    ):
        for item in node.items(*path)[:20]:
            said = item.get("message") or item.get("content")
            if isinstance(said, str) and said.strip("= \n"):
                role = str(item.get("type") or item.get("role") or "message").lower()
                found.append(("system message" if "system" in role else "message", said))
    summary = node.at("options", "summarizationMethodAndPrompts", "values")
    if isinstance(summary, dict):
        found += [("message", text) for text in summary.values() if isinstance(text, str) and "{" in text]
    return [(title, long_text(text)) for title, text in found if text.strip("= \n")]


def _shape(node: Node) -> str:
    """The form that an output parser asks for."""
    if node.kind == "outputParserItemList":
        return "A list, one item a line."
    if not node.kind.startswith("outputParser"):
        return ""
    shape = node.text("jsonSchemaExample") or node.text("inputSchema") or node.text("jsonSchema")
    return f"JSON like this:\n{long_text(shape, 3_000)}" if shape else ""


# ── models ──────────────────────────────────────────────────────────────────────────────────────────────────


def model_of(node: Node) -> tuple[ModelProfile | None, str]:
    """The model of a node as a profile, and what is to be said about it.

    A server that the file names is kept, and told: prompts would go there. It never gets a key by itself.
    """
    is_own = node.kind in ("openAi", "anthropic", "googleGemini", "ollama", "openAiAssistant", "openAiTool")
    family = (
        _family(node.kind)
        if not is_own
        else {"anthropic": "Anthropic", "googleGemini": "GoogleGemini", "ollama": "Ollama"}.get(
            node.kind, "OpenAi"
        )
    )
    model = _model_name(node)
    base = node.text("options", "baseURL")
    if base:
        return _own_server(family, model, base)
    if family == "Anthropic":
        return _profile(provider="anthropic", model=model), _model_words("Anthropic", model)
    if family == "Ollama":
        return _profile(provider="ollama", model=model), _model_words("Ollama", model)
    if address := _ADDRESSES.get(family):
        model = model or _DEFAULT_MODELS.get(family, "")
        if not model:
            return (
                None,
                f"It uses {humanised(family)} without naming a model; the persona thinks with the home's own.",
            )
        said = _model_words(f"{urlsplit(address).hostname}", model)
        return _profile(
            provider="custom", model=model, base_url=address
        ), f"{said} It needs a key of that service."
    named = f" {code(model)}" if model else ""
    return (
        None,
        f"The model{named} ({humanised(family) or 'unknown'}) cannot be set up from the file; the home's own is used.",
    )


def _own_server(family: str, model: str, base: str) -> tuple[ModelProfile | None, str]:
    provider = {"Anthropic": "anthropic", "Ollama": "ollama"}.get(family, "custom")
    profile = (
        None if base.startswith("=") else _profile(provider=provider, model=model, base_url=plain(base, 200))
    )
    if profile is None:
        return (
            None,
            f"Its server ({value_words(base)}) cannot be used; the persona thinks with the home's own model.",
        )
    return (
        profile,
        f"Its model {code(model)} is on the server {code(base)}: prompts will go there. Check that you want that.",
    )


def _family(kind: str) -> str:
    for start in ("lmChat", "lmOpenHuggingFace", "lm"):
        if kind.startswith(start):
            return kind[len(start) :]
    return ""


def _model_name(node: Node) -> str:
    for name in ("model", "modelName", "modelId"):
        value = node.at(name)
        if isinstance(value, dict):
            value = value.get("value")
        if isinstance(value, str) and value and not value.startswith("="):
            return plain(value, 100).removeprefix("models/")
    return ""


def _model_words(where: str, model: str) -> str:
    return (
        f"The persona thinks with {code(model)} of {where}."
        if model
        else f"The persona thinks with {where}'s usual model."
    )


def _profile(**fields: Any) -> ModelProfile | None:
    try:
        return made(ModelProfile, {name: value for name, value in fields.items() if value})
    except InvalidInput:
        return None
