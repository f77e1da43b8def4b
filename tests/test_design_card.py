"""The card of a design: what a person reads before they apply it."""

from __future__ import annotations

import re
from typing import Any
from zoneinfo import ZoneInfo

from personas_nb.design.costs import DesignCost
from personas_nb.engine.estimate import CostRange
from personas_nb.entities.design import (
    DesignHighlight,
    DesignResult,
    Feasibility,
    FeasibilityIssue,
    SuggestedConnector,
    SuggestedSubscription,
    SuggestedTrigger,
)
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.entities.tool import ToolDefinition
from personas_nb.views import design

WEEKDAYS = SuggestedTrigger(
    trigger_type="schedule",
    config={"cron": "0 9 * * 1-5", "timezone": "Asia/Tokyo"},
    limitation="One cron cannot say “every other day”; this runs every weekday.",
)
NO_CREDENTIAL = FeasibilityIssue(
    kind="credential", subject="gmail", problem="There is no credential for Gmail.", remedy="Add one."
)
MAIL_DESIGN = DesignResult(
    name="Mail boy",
    structured_prompt=StructuredPrompt(identity="You read mail.", instructions="1. Read.\n2. Sum up."),
    suggested_tools=("gmail_read", "file_write"),
    suggested_triggers=(WEEKDAYS,),
    suggested_connectors=(
        SuggestedConnector(
            name="gmail",
            credential_fields=("user", "app_password"),
            setup_instructions="Make an app password. Then another sentence.",
        ),
    ),
    suggested_event_subscriptions=(SuggestedSubscription(event_type="mail.new", source_filter="shop"),),
    design_highlights=(
        DesignHighlight(category="What it does", icon="▶", color="#0072B2", items=("Reads", "Sums up")),
        DesignHighlight(category="Tone", icon="<img>", color="red;x:url(//a)", items=("Kind",)),
    ),
    feasibility=Feasibility(overall="partial", issues=(NO_CREDENTIAL,)),
)
CATALOG = [
    ToolDefinition(name="gmail_read", effect="outside", requires_credential_type="gmail"),
    ToolDefinition(name="file_write", effect="local"),
]


def design_text(**more: Any) -> str:
    return design.design_card(MAIL_DESIGN, tools=CATALOG, **more).text


def test_a_design_says_which_tool_needs_what() -> None:
    text = design_text()
    assert "gmail_read  reaches outside        ▲ a credential of gmail: there is none yet" in text
    assert "file_write  changes its workspace" in text
    assert "✓ a credential of gmail" in design_text(credentials={"gmail"})


def test_a_connector_comes_with_the_verb_to_type_and_is_not_told_twice() -> None:
    text = design_text()
    assert "%persona credentials add gmail gmail" in text
    assert "Make an app password." in text
    assert "another sentence" not in text
    assert "There is no credential for Gmail." not in text
    assert "1 credential to add" in text
    assert '%%persona run "Mail boy" --provider rehearsal' in text


def test_a_connector_that_is_set_up_asks_for_nothing() -> None:
    ready = MAIL_DESIGN.changed(feasibility=Feasibility())
    text = design.design_card(ready, tools=CATALOG, credentials={"gmail"}).text
    assert "✓ gmail" in text
    assert "credentials add" not in text
    assert "rehearsed" not in text


def test_a_design_by_itself_reckons_its_next_times_in_the_zone_of_the_trigger() -> None:
    times = design.next_times(WEEKDAYS)
    assert [time.astimezone(ZoneInfo("Asia/Tokyo")).hour for time in times] == [9, 9, 9]
    assert "(Asia/Tokyo)" in design.design_card(MAIL_DESIGN).text
    assert design.next_times(WEEKDAYS.changed(config={"cron": "soon"})) == []


def test_an_event_stands_with_the_triggers() -> None:
    assert "when mail.new is published from shop" in design_text()


def test_a_highlight_has_a_sign_of_ours_or_a_plain_one() -> None:
    view = design.design_card(MAIL_DESIGN)
    assert "▶ What it does  Reads" in view.text
    assert "◆ Tone" in view.text
    assert "url(" not in view.html
    assert "<img" not in view.html


def test_the_instructions_are_open_and_the_other_sections_unfold() -> None:
    page = design.design_card(MAIL_DESIGN).html
    opened = page[page.index("<b>Instructions</b>") : page.index("2. Sum up.")]
    assert "<details" not in opened
    assert re.search(r"<details[^>]*><summary[^>]*>Identity \(14 characters\)", page)


def test_a_cost_has_a_range_for_a_run_and_for_a_month() -> None:
    cost = DesignCost("haiku", CostRange(0.004, 1.0, True, False), 0.07, 22.0, rehearsal=True)
    text = design_text(cost=cost)
    assert "What it may cost · with haiku" in text
    assert re.search(r"a run +\$0\.004 to \$1\.00 +about \$0\.07", text)
    assert re.search(r"a month  about 22 +\$0\.088 to \$22\.00 +about \$1\.54", text)
    assert "In rehearsal it costs nothing." in text


def test_a_page_that_may_never_change_has_no_least_cost() -> None:
    cost = DesignCost("haiku", CostRange(0.01, 1.0, True, False), 0.02, 4383.0, is_at_most=True)
    assert re.search(r"at most 4,383 +\$0 to \$4,383 +at most \$87\.66", design_text(cost=cost))


def test_a_rare_run_is_counted_in_years_and_an_unknown_price_is_said() -> None:
    rare = DesignCost("haiku", CostRange(0.004, 1.0, True, False), 0.07, 1 / 3)
    assert "about 4 runs a year" in design_text(cost=rare)
    assert "Unknown: the price of llama is not known here." in design_text(cost=DesignCost("llama"))


def test_what_a_trigger_cannot_do_is_no_blocker() -> None:
    issue = FeasibilityIssue(
        kind="limit", subject="every weekday", problem="Not so.", remedy='%persona refine "daily"'
    )
    text = design.design_card(
        MAIL_DESIGN.changed(feasibility=Feasibility(overall="partial", issues=(issue,)))
    ).text
    assert "▲ not wholly" in text
    assert "%persona apply" in text
