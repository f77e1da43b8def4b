"""Agents of a workflow: absorbed, with their tools, memory, models and credentials."""

from __future__ import annotations

from typing import Any

import pytest
from support.n8n_files import FIXTURES, after_manual, entry, everything, imported, node, steps, to

from personas_nb.design.formats.n8n import read
from personas_nb.design.formats.n8n.services import connector_of, suggested
from personas_nb.design.formats.report import ImportReport
from personas_nb.entities.model_profile import ModelProfile

DESK = read((FIXTURES / "support-desk.json").read_bytes(), "support-desk.json")


def with_model(kind: str, parameters: dict[str, Any]) -> ImportReport:
    nodes = [node("Start", "manualTrigger"), node("Agent", "agent"), node("Model", kind, parameters)]
    return imported(nodes, {"Start": to("Agent"), "Model": to("Agent", kind="ai_languageModel")})


def test_an_agent_becomes_a_step_that_the_persona_does_itself() -> None:
    text = steps(DESK)
    assert "1. `Triage`: Do yourself what text 1 asks. The system message of its author is text 2." in text
    assert "   - `Find order` (when: `Finds an order by its number`): Send `GET`" in text
    prompt = DESK.draft.full_prompt_markdown
    assert "Text 2 · system message of `Triage`:\n```text\nYou sort the mails of a bicycle shop." in prompt
    assert 'Text 3 · form of the answer of `Triage`:\n```text\nJSON like this:\n{"kind": "refund"' in prompt


@pytest.mark.parametrize(
    ("source", "outcome", "said"),
    [
        (
            "Triage",
            "absorbed",
            "The persona itself does this with its model `Chat model`, memory `Window memory`",
        ),
        ("Chat model", "absorbed", "The persona thinks with `gpt-4o-mini` of api.openai.com."),
        ("Window memory", "absorbed", "The persona has memories of its own"),
        ("Find order", "mapped", "It is a tool of `Triage`."),
        ("Answer form", "absorbed", "It is the form of the answer of `Triage`."),
    ],
)
def test_each_part_of_an_agent_has_its_entry(source: str, outcome: str, said: str) -> None:
    assert entry(DESK, source).outcome == outcome
    assert said in entry(DESK, source).reason


@pytest.mark.parametrize(
    ("kind", "parameters", "profile"),
    [
        (
            "lmChatAnthropic",
            {"model": "claude-sonnet-4"},
            ModelProfile(provider="anthropic", model="claude-sonnet-4"),
        ),
        ("lmChatAnthropic", {}, ModelProfile(provider="anthropic")),
        ("lmChatOllama", {"model": "llama3.2"}, ModelProfile(provider="ollama", model="llama3.2")),
        (
            "lmChatOpenAi",
            {"model": {"__rl": True, "value": "gpt-4o"}},
            ModelProfile(provider="custom", model="gpt-4o", base_url="https://api.openai.com/v1"),
        ),
        (
            "lmChatOpenAi",
            {"options": {}},
            ModelProfile(provider="custom", model="gpt-4o-mini", base_url="https://api.openai.com/v1"),
        ),
        (
            "lmChatGroq",
            {"model": "qwen"},
            ModelProfile(provider="custom", model="qwen", base_url="https://api.groq.com/openai/v1"),
        ),
        (
            "lmChatGoogleGemini",
            {"modelName": "models/gemini-2.0"},
            ModelProfile(
                provider="custom",
                model="gemini-2.0",
                base_url="https://generativelanguage.googleapis.com/v1beta/openai",
            ),
        ),
        ("lmChatAzureOpenAi", {"model": "x"}, None),
        ("lmChatOpenRouter", {"model": "={{ $json.model }}"}, None),
    ],
)
def test_the_model_of_an_agent_is_the_model_of_the_persona(
    kind: str, parameters: dict[str, Any], profile: ModelProfile | None
) -> None:
    report = with_model(kind, parameters)
    assert report.draft.suggested_model_profile == profile
    assert entry(report, "Model").outcome == "absorbed"


def test_a_server_that_the_file_names_is_told_and_asks() -> None:
    report = with_model("lmChatOpenAi", {"model": "m", "options": {"baseURL": "https://evil.example/v1"}})
    found = entry(report, "Model")
    assert found.outcome == "needs_human"
    assert "is on the server `https://evil.example/v1`: prompts will go there" in found.reason


@pytest.mark.parametrize(
    "base", ["ftp://x", "https://user:pw123456@evil.example/v1", "={{ $env.URL }}", "javascript:alert(1)"]
)
def test_a_server_that_cannot_be_used_is_left_out(base: str) -> None:
    report = with_model("lmChatOpenAi", {"model": "m", "options": {"baseURL": base}})
    assert report.draft.suggested_model_profile is None
    assert "pw123456" not in everything(report)


def test_the_first_agent_decides_the_model_and_the_others_are_told() -> None:
    nodes = [
        node("Start", "manualTrigger"),
        node("One", "agent"),
        node("Two", "chainLlm"),
        node("A", "lmChatOllama", {"model": "a"}),
        node("B", "lmChatOllama", {"model": "b"}),
    ]
    links = {
        "Start": to("One"),
        "One": to("Two"),
        "A": to("One", kind="ai_languageModel"),
        "B": to("Two", kind="ai_languageModel"),
    }
    report = imported(nodes, links)
    assert report.draft.suggested_model_profile == ModelProfile(provider="ollama", model="a")
    assert "A persona thinks with one model" in entry(report, "B").reason


def test_a_node_that_asks_openai_itself_is_absorbed_with_its_messages() -> None:
    messages = {
        "values": [{"role": "system", "content": "Be brief."}, {"content": "=Sum up {{ $json.text }}"}]
    }
    report = after_manual(node("Ask", "openAi", {"modelId": {"value": "gpt-4o"}, "messages": messages}))
    assert entry(report, "Ask").outcome == "absorbed"
    assert "system message of `Ask`:\n```text\nBe brief.\n```" in report.draft.full_prompt_markdown
    assert "message of `Ask`:\n```text\nSum up ‹text›\n```" in report.draft.full_prompt_markdown


def test_making_pictures_is_no_thinking() -> None:
    report = after_manual(node("Draw", "openAi", {"resource": "image", "prompt": "a cat"}))
    assert entry(report, "Draw").outcome == "mapped"
    assert report.draft.suggested_tools == ("http_request",)


def test_sorting_texts_has_its_categories_as_branches() -> None:
    categories = {
        "categories": [{"category": "invoice", "description": "a bill"}, {"category": "other mail"}]
    }
    nodes = [
        node("Start", "manualTrigger"),
        node("Sort", "textClassifier", {"inputText": "={{ $json.body }}", "categories": categories}),
        node("A", "set"),
        node("B", "html"),
    ]
    text = steps(imported(nodes, {"Start": to("Sort"), "Sort": to("A", "|", "B")}))
    assert "1. `Sort`: Sort `‹body›` into one of: `invoice` (`a bill`); `other mail`." in text
    assert "   - `invoice`: step 2.\n   - `other mail`: step 3." in text


def test_taking_data_out_names_the_fields() -> None:
    attributes = {"attributes": [{"name": "total", "description": "the sum"}]}
    text = steps(
        after_manual(
            node("Take", "informationExtractor", {"text": "={{ $json.t }}", "attributes": attributes})
        )
    )
    assert "Take out of `‹t›`: `total` (`the sum`); invent nothing." in text


def test_a_tool_that_no_tool_of_ours_can_replace_asks() -> None:
    nodes = [
        node("Start", "manualTrigger"),
        node("Agent", "agent"),
        node("Search", "toolVectorStore"),
        node("Index", "vectorStoreQdrant"),
        node("Vectors", "embeddingsOpenAi", credentials={"openAiApi": {}}),
        node("Server", "mcpClientTool", {"sseEndpoint": "https://mcp.example/sse"}),
    ]
    links = {
        "Start": to("Agent"),
        "Search": to("Agent", kind="ai_tool"),
        "Server": to("Agent", kind="ai_tool"),
        "Index": to("Search", kind="ai_vectorStore"),
        "Vectors": to("Index", kind="ai_embedding"),
    }
    report = imported(nodes, links)
    assert entry(report, "Search").outcome == "needs_human"
    assert "`%persona servers add" in entry(report, "Server").reason
    assert entry(report, "Vectors").reason == "It is an embedding of `Index`."
    assert entry(report, "credential openAiApi").outcome == "absorbed"


def test_a_server_of_tools_uses_them_itself() -> None:
    nodes = [node("Serve", "mcpTrigger"), node("Lookup", "toolHttpRequest", {"url": "https://x.org"})]
    report = imported(nodes, {"Lookup": to("Serve", kind="ai_tool")})
    assert "1. `Serve`: Answer the input yourself. You may use" in steps(report)
    assert entry(report, "Lookup").outcome == "mapped"
    assert report.draft.suggested_tools == ("http_request",)


def test_what_hangs_on_a_disabled_agent_is_dropped_with_it() -> None:
    nodes = [
        node("Start", "manualTrigger"),
        node("Agent", "agent", disabled=True),
        node("Model", "lmChatOllama"),
        node("End", "set"),
    ]
    report = imported(
        nodes, {"Start": to("Agent"), "Agent": to("End"), "Model": to("Agent", kind="ai_languageModel")}
    )
    assert [entry(report, name).outcome for name in ("Agent", "Model")] == ["dropped", "dropped"]
    assert report.draft.suggested_model_profile is None


# ── credentials ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("credential", "connector"),
    [
        ("gmailOAuth2", "gmail"),
        ("imap", "gmail"),
        ("smtp", "smtp"),
        ("slackApi", "slack"),
        ("telegramApi", "telegram"),
        ("githubOAuth2Api", "github"),
        ("postgres", "postgres"),
        ("httpHeaderAuth", "http_bearer"),
        ("httpBasicAuth", "http_bearer"),
        ("oAuth2Api", "http_bearer"),
        ("googleSheetsOAuth2Api", "google"),
        ("youTubeOAuth2Api", "google"),
        ("googleApi", "google"),
        ("microsoftOutlookOAuth2Api", "microsoft"),
        ("notionApi", "notion"),
        ("airtableTokenApi", "airtable"),
        ("acmeWidgetApi", "acme_widget"),
        ("whatsAppTriggerApi", "whatsapp"),
        ("hubspotAppToken", "hubspot_app"),
        ("9lives", "http_bearer"),
    ],
)
def test_a_credential_becomes_a_connector_by_its_type(credential: str, connector: str) -> None:
    assert connector_of(credential) == connector


def test_a_shipped_connector_says_which_fields_it_needs() -> None:
    assert suggested("gmail").credential_fields == ("user", "app_password")
    assert "`%persona credentials add gmail gmail`" in suggested("gmail").setup_instructions


def test_what_it_suggests_for_another_connector_can_be_typed() -> None:
    from personas_nb import Studio

    with Studio() as studio:
        for name in ("notion", "google", "acme_widget", "odoo"):
            code = suggested(name).setup_instructions.split("`")[1]
            assert eval(code, {"studio": studio}).name == name


def test_credentials_are_told_with_who_uses_them() -> None:
    assert {one.name for one in DESK.draft.suggested_connectors} == {
        "gmail",
        "google",
        "http_bearer",
        "telegram",
    }
    assert entry(DESK, "credential gmailOAuth2").reason.endswith("Used by `New mail` and `Reply`.")
    assert entry(DESK, "credential googleSheetsOAuth2Api").outcome == "needs_human"
    assert entry(DESK, "credential slackOAuth2Api").outcome == "absorbed"


def test_a_credential_of_a_service_is_suggested_where_the_export_has_none() -> None:
    report = after_manual(node("Page", "notion", {"operation": "create"}))
    assert [one.name for one in report.draft.suggested_connectors] == ["notion"]


def test_the_credential_of_a_disabled_node_is_not() -> None:
    report = after_manual(node("Page", "notion", disabled=True, credentials={"notionApi": {}}))
    assert report.draft.suggested_connectors == ()
    assert [one for one in report.entries if one.source.startswith("credential")] == []


def test_a_connector_goes_to_the_addresses_that_are_used_only() -> None:
    sheets, drive = node("Sheet", "googleSheets"), node("File", "googleDrive")
    (google,) = after_manual(sheets, drive).draft.suggested_connectors
    assert google.credential_fields == ("base_url", "base_url_2", "token")
    assert '"default": "https://sheets.googleapis.com"' in google.setup_instructions
    assert '"default": "https://www.googleapis.com"' in google.setup_instructions


def agent_that_has(*tools: dict[str, Any], **links: dict[str, Any]) -> ImportReport:
    nodes = [node("Start", "manualTrigger"), node("Boss", "agent"), *tools]
    return imported(nodes, {"Start": to("Boss"), **links})


def test_an_agent_that_is_a_tool_is_described_with_its_own_prompt_and_tools() -> None:
    report = agent_that_has(
        node(
            "Helper",
            "agentTool",
            {"toolDescription": "Researches", "options": {"systemMessage": "You look."}},
        ),
        node("Sum", "toolCode", {"jsCode": "return a + b"}),
        node(
            "Calendar",
            "googleCalendarTool",
            {"operation": "getAll"},
            credentials={"googleCalendarOAuth2Api": {}},
        ),
        node("Own model", "lmChatOllama", {"model": "llama3.2"}),
        node("Boss model", "lmChatAnthropic", {"model": "claude-sonnet-4"}),
        **{
            "Boss model": to("Boss", kind="ai_languageModel"),
            "Own model": to("Helper", kind="ai_languageModel"),
        },
        Helper=to("Boss", kind="ai_tool"),
        Sum=to("Helper", kind="ai_tool"),
        Calendar=to("Helper", kind="ai_tool"),
    )
    assert "\n     - `Sum`: Do with the items what this does (JavaScript): text 2." in steps(report)
    assert "\n     - `Calendar`: In Google Calendar: list" in steps(report)
    prompt = report.draft.full_prompt_markdown
    assert "Text 1 · system message of `Helper`, a tool of `Boss`:\n```text\nYou look.\n```" in prompt
    assert (
        "Text 2 · code of `Sum`, a tool of `Helper`, a tool of `Boss`:\n```text\nreturn a + b\n```" in prompt
    )
    assert [each.name for each in report.draft.suggested_connectors] == ["google"]
    assert report.draft.suggested_model_profile == ModelProfile(provider="anthropic", model="claude-sonnet-4")
    assert "this one is not used" in entry(report, "Own model").reason


def test_agents_that_are_tools_of_each_other_are_described_once() -> None:
    report = agent_that_has(
        node("One", "agentTool", {"options": {"systemMessage": "You are one."}}),
        node("Two", "agentTool", {"options": {"systemMessage": "You are two."}}),
        One={"ai_tool": [[{"node": "Boss", "type": "ai_tool"}, {"node": "Two", "type": "ai_tool"}]]},
        Two=to("One", kind="ai_tool"),
    )
    assert steps(report).count("`One`:") == 2
    assert report.draft.full_prompt_markdown.count("You are one.") == 1
    assert "a task of its own, which you do yourself" in steps(report)


def test_ten_thousand_agents_in_each_other_are_read_and_what_is_left_out_is_told() -> None:
    count = 10_000
    helpers = [node(f"A{number}", "agentTool") for number in range(count)]
    links = {f"A{number + 1}": to(f"A{number}", kind="ai_tool") for number in range(count - 1)}
    last = node("Deep", "toolCode", {"jsCode": "return 1"})
    deep = {"Deep": to(f"A{count - 1}", kind="ai_tool"), "A0": to("Boss", kind="ai_tool")}
    report = agent_that_has(*helpers, last, **links, **deep)
    assert len(steps(report)) < 5_000
    found = entry(report, "Deep")
    assert (found.outcome, "The instructions do not name it" in found.reason) == ("needs_human", True)


def test_a_parser_that_repairs_answers_has_the_form_of_the_one_it_holds() -> None:
    report = agent_that_has(
        node("Repair", "outputParserAutofixing"),
        node("Form", "outputParserStructured", {"jsonSchemaExample": '{"total": 1}'}),
        Repair=to("Boss", kind="ai_outputParser"),
        Form=to("Repair", kind="ai_outputParser"),
    )
    assert 'JSON like this:\n{"total": 1}' in report.draft.full_prompt_markdown
