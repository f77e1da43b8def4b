"""The offline schedule grammar: sentences and the triggers they must give, and any text at all."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from personas_nb.design.schedules import Schedule, find_schedules
from personas_nb.triggers import cron

ASSUMED = " (time assumed)"

CRONS = [
    # periods that divide an hour or a day
    ("every minute", "* * * * *", "every minute"),
    ("every 5 minutes", "*/5 * * * *", "every 5 minutes"),
    ("Poll the feed every 10 min", "*/10 * * * *", "every 10 minutes"),
    ("every quarter of an hour", "*/15 * * * *", "every 15 minutes"),
    ("every half hour", "*/30 * * * *", "every 30 minutes"),
    ("every 60 minutes", "0 * * * *", "every hour"),
    ("check the queue hourly", "0 * * * *", "every hour"),
    ("once an hour", "0 * * * *", "every hour"),
    ("every hour at :15", "15 * * * *", "every hour at 15 minutes past"),
    ("every two hours", "0 */2 * * *", "every 2 hours"),
    ("every third hour", "0 */3 * * *", "every 3 hours"),
    ("every couple of hours", "0 */2 * * *", "every 2 hours"),
    ("every 12h", "0 */12 * * *", "every 12 hours"),
    ("twice an hour", "*/30 * * * *", "every 30 minutes"),
    ("every 20 minutes on weekdays", "*/20 * * * 1-5", "every 20 minutes, on weekdays"),
    (
        "every hour on weekdays between 9 and 17",
        "0 9-17 * * 1-5",
        "every hour from 09:00 to 17:00, on weekdays",
    ),
    (
        "each day between 9 and 17, every 10 minutes",
        "*/10 9-16 * * *",
        "every 10 minutes from 09:00 to 16:50",
    ),
    ("every 30 minutes from 9 to 5", "*/30 9-16 * * *", "every 30 minutes from 09:00 to 16:30"),
    ("every 10 minutes from 9am until 5pm Monday to Friday", "*/10 9-16 * * 1-5", None),
    # days
    ("every day at 9", "0 9 * * *", "every day at 09:00"),
    ("Every day, read my mail", "0 9 * * *", "every day at 09:00" + ASSUMED),
    ("Send me a daily summary", "0 9 * * *", "every day at 09:00" + ASSUMED),
    ("every 24 hours", "0 9 * * *", "every day at 09:00" + ASSUMED),
    ("daily at 17:00", "0 17 * * *", "every day at 17:00"),
    ("every day at noon", "0 12 * * *", "every day at 12:00"),
    ("every day at midnight", "0 0 * * *", "every day at 00:00"),
    ("at 9:30 pm every day", "30 21 * * *", "every day at 21:30"),
    ("every day at 12 am", "0 0 * * *", "every day at 00:00"),
    ("every day at 12 p.m.", "0 12 * * *", "every day at 12:00"),
    ("at 9 in the evening every day", "0 21 * * *", "every day at 21:00"),
    ("every day at half past eight", "30 8 * * *", "every day at 08:30"),
    ("every day at quarter to 7", "45 6 * * *", "every day at 06:45"),
    ("each morning", "0 9 * * *", "every day at 09:00" + ASSUMED),
    ("every morning at 7", "0 7 * * *", "every day at 07:00"),
    ("every evening at 8:30", "30 20 * * *", "every day at 20:30"),
    ("every night at 11", "0 23 * * *", "every day at 23:00"),
    ("every night at 2", "0 2 * * *", "every day at 02:00"),
    ("every day at 8am, noon and 6pm", "0 8,12,18 * * *", "every day at 08:00, 12:00 and 18:00"),
    ("twice a day at 9 and 17", "0 9,17 * * *", "every day at 09:00 and 17:00"),
    ("twice daily", "0 9,17 * * *", "every day at 09:00 and 17:00" + ASSUMED),
    ("three times a day", "0 9,13,17 * * *", "every day at 09:00, 13:00 and 17:00" + ASSUMED),
    ("Every weekday, send me the news at 7am.", "0 7 * * 1-5", "every weekday at 07:00"),
    # days of the week
    ("every weekday", "0 9 * * 1-5", "every weekday at 09:00" + ASSUMED),
    ("Summarise my inbox on weekdays at 9am", "0 9 * * 1-5", "every weekday at 09:00"),
    ("weekday mornings at 8", "0 8 * * 1-5", "every weekday at 08:00"),
    ("every working day at 8:30am", "30 8 * * 1-5", "every weekday at 08:30"),
    ("daily at 9 on weekdays", "0 9 * * 1-5", "every weekday at 09:00"),
    ("Mon-Fri 9:00", "0 9 * * 1-5", "every weekday at 09:00"),
    ("from Monday to Friday at 18:00", "0 18 * * 1-5", "every weekday at 18:00"),
    ("every weekend at 10", "0 10 * * 0,6", "every weekend day at 10:00"),
    ("every monday at noon", "0 12 * * 1", "every Monday at 12:00"),
    ("on mondays and thursdays at 8", "0 8 * * 1,4", "every Monday and Thursday at 08:00"),
    ("Mon, Wed and Fri at 7:30", "30 7 * * 1,3,5", "every Monday, Wednesday and Friday at 07:30"),
    ("every Tue/Thu at 9", "0 9 * * 2,4", "every Tuesday and Thursday at 09:00"),
    ("every monday and every thursday at 9", "0 9 * * 1,4", "every Monday and Thursday at 09:00"),
    ("every Tuesday afternoon at 3", "0 15 * * 2", "every Tuesday at 15:00"),
    ("every day except sunday at 8", "0 8 * * 1-6", "every day except Sunday at 08:00"),
    ("weekly", "0 9 * * 1", "every Monday at 09:00 (day and time assumed)"),
    ("once a week on Friday", "0 9 * * 5", "every Friday at 09:00" + ASSUMED),
    ("twice a week", "0 9 * * 1,4", "every Monday and Thursday at 09:00 (days and time assumed)"),
    ("Send the weekly report every Friday at 5pm", "0 17 * * 5", "every Friday at 17:00"),
    ("every morning at 9:15, weekdays only", "15 9 * * 1-5", "every weekday at 09:15"),
    ("Tuesdays and Thursdays 14:00: remind me", "0 14 * * 2,4", "every Tuesday and Thursday at 14:00"),
    ("every weekday except Wednesday at 9", "0 9 * * 1,2,4,5", None),
    ("every weeknight at 10", "0 22 * * 1-5", "every weekday at 22:00"),
    ("Monday mornings at 8", "0 8 * * 1", "every Monday at 08:00"),
    ("first thing every Monday", "0 9 * * 1", "every Monday at 09:00" + ASSUMED),
    ("every Friday at close of business", "0 17 * * 5", "every Friday at 17:00"),
    ("daily at lunchtime", "0 12 * * *", "every day at 12:00"),
    # paces with a beginning, an end, or a minute of their own
    ("at 10 past every hour", "10 * * * *", "every hour at 10 minutes past"),
    ("at quarter past each hour", "15 * * * *", "every hour at 15 minutes past"),
    ("every hour on the half hour", "30 * * * *", "every hour at 30 minutes past"),
    ("at the top of every hour", "0 * * * *", "every hour"),
    ("every 4 hours starting at 6", "0 2,6,10,14,18,22 * * *", None),
    ("every 5 minutes from 22:00 to 6:00", "*/5 0-5,22,23 * * *", None),
    ("hourly, but not at night", "0 7-22 * * *", "every hour from 07:00 to 22:00"),
    ("Don't run at night; check it hourly", "0 7-22 * * *", "every hour from 07:00 to 22:00"),
    # dates
    ("on the first Monday of the month at 9", "0 9 */31,2-7 * 1", None),
    ("first Friday of each quarter at 16:00", "0 16 */31,2-7 1,4,7,10 5", None),
    ("on the second Sunday of every month at 7", "0 7 8-14 * */7", None),
    ("on 15 January, April, July and October at 8", "0 8 15 1,4,7,10 *", None),
    ("on January 15 and July 15", "0 9 15 1,7 *", "on day 15 of January and July at 09:00" + ASSUMED),
    ("on the 1st, 10th and 20th at 9", "0 9 1,10,20 * *", None),
    ("on the first Thursday of every month at 10am, but not in August", "0 10 */31,2-7 1-7,9-12 4", None),
    ("monthly run: on the 25th at 14:00 write it", "0 14 25 * *", "on day 25 of every month at 14:00"),
    ("at the end of the year", "0 9 31 12 *", "on day 31 of December at 09:00" + ASSUMED),
    ("every half year", "0 9 1 */6 *", "on day 1 of January and July at 09:00 (day and time assumed)"),
    ("monthly", "0 9 1 * *", "on day 1 of every month at 09:00 (day and time assumed)"),
    ("first of every month", "0 9 1 * *", "on day 1 of every month at 09:00" + ASSUMED),
    ("on the 15th of each month at 8:00", "0 8 15 * *", "on day 15 of every month at 08:00"),
    ("on the 1st and 15th of every month at 6", "0 6 1,15 * *", "on days 1 and 15 of every month at 06:00"),
    ("every month on the 3rd at 10", "0 10 3 * *", "on day 3 of every month at 10:00"),
    ("on day 5 of the month at 7am", "0 7 5 * *", "on day 5 of every month at 07:00"),
    (
        "quarterly",
        "0 9 1 */3 *",
        "on day 1 of January, April, July and October at 09:00 (day and time assumed)",
    ),
    ("each quarter on the 15th at 9am", "0 9 15 */3 *", None),
    ("every 6 months", "0 9 1 */6 *", "on day 1 of January and July at 09:00 (day and time assumed)"),
    ("yearly", "0 9 1 1 *", "on day 1 of January at 09:00 (day and time assumed)"),
    ("every year on March 3 at 9", "0 9 3 3 *", "on day 3 of March at 09:00"),
    ("every January on the 15th at noon", "0 12 15 1 *", "on day 15 of January at 12:00"),
    ("every 24 December at noon", "0 12 24 12 *", "on day 24 of December at 12:00"),
]


@pytest.mark.parametrize(("sentence", "expression", "description"), CRONS, ids=[case[0] for case in CRONS])
def test_a_sentence_is_one_schedule(sentence: str, expression: str, description: str | None) -> None:
    (found,) = find_schedules(sentence)
    assert (found.trigger_type, found.config) == ("schedule", {"cron": expression})
    assert found.description == (description or cron.in_words(expression))


@pytest.mark.parametrize(
    ("sentence", "seconds", "description"),
    [
        ("Check the queue every 45 minutes", 2700, "every 45 minutes"),
        ("every 90 minutes", 5400, "every 90 minutes"),
        ("every 1.5 hours", 5400, "every 90 minutes"),
        ("poll the API every 7 hours", 25_200, "every 7 hours"),
        ("every 3 days", 259_200, "every 3 days"),
        ("every other day", 172_800, "every 2 days"),
        ("every 48 hours", 172_800, "every 2 days"),
        ("every 2 weeks", 1_209_600, "every 2 weeks"),
        ("fortnightly", 1_209_600, "every 2 weeks"),
        ("every 30 seconds", 30, "every 30 seconds"),
    ],
)
def test_a_period_that_no_cron_can_hold_is_polled(sentence: str, seconds: int, description: str) -> None:
    (found,) = find_schedules(sentence, "Europe/Berlin")
    assert (found.trigger_type, found.config) == ("polling", {"interval_seconds": seconds})
    assert found.description == description


@pytest.mark.parametrize(
    ("sentence", "expressions"),
    [
        (
            "Every weekday at 9am summarise my mail and every Friday at 17:00 send a report",
            ["0 9 * * 1-5", "0 17 * * 5"],
        ),
        ("every day at 9:30 and 17:00", ["30 9 * * *", "0 17 * * *"]),
        ("every day at 9:00 and 9:30", ["0,30 9 * * *"]),
        ("at 9 on Mondays and at 17 on Fridays", ["0 9 * * 1", "0 17 * * 5"]),
        ("on Mondays at 9 and on Fridays at 17", ["0 9 * * 1", "0 17 * * 5"]),
        ("on weekdays at 9 and at 10 on weekends", ["0 9 * * 1-5", "0 10 * * 0,6"]),
        ("every day at 9 and on Fridays at 17", ["0 9 * * *", "0 17 * * 5"]),
        ("Check hourly and report every Monday at 8", ["0 * * * *", "0 8 * * 1"]),
        ("weekly on Mondays and monthly on the 1st", ["0 9 * * 1", "0 9 1 * *"]),
        ("every day at 9, and again every day at 9", ["0 9 * * *"]),
        ("Mondays at 9, Wednesdays at 10 and Fridays at 11", ["0 9 * * 1", "0 10 * * 3", "0 11 * * 5"]),
        ("every weekday at 9 and 17, and on Saturdays at 10", ["0 9,17 * * 1-5", "0 10 * * 6"]),
        ("each month on the 1st at 9am and on the 15th at 5pm", ["0 9 1 * *", "0 17 15 * *"]),
        ("on 15 January and 3 March at 8", ["0 8 15 1 *", "0 8 3 3 *"]),
        ("every Monday and on the first of the month at 8", ["0 9 * * 1", "0 8 1 * *"]),
        ("every 90 minutes between 8 and 20", ["0 8,11,14,17,20 * * *", "30 9,12,15,18 * * *"]),
        ("on the first working day of every month at 9", ["0 9 */31,2-3 * 1", "0 9 */31 * 2-5"]),
    ],
)
def test_a_sentence_may_hold_several_schedules(sentence: str, expressions: list[str]) -> None:
    assert [found.config["cron"] for found in find_schedules(sentence)] == expressions


@pytest.mark.parametrize(
    ("sentence", "zone"),
    [
        ("every weekday at 9 Berlin time", "Europe/Berlin"),
        ("9am America/New_York every weekday", "America/New_York"),
        ("daily at 6 UTC", "UTC"),
        ("daily (9am Tokyo time)", "Asia/Tokyo"),
        ("every weekday at 6:45 Pacific time", "America/Los_Angeles"),
    ],
)
def test_a_zone_in_the_sentence_is_the_schedules_zone(sentence: str, zone: str) -> None:
    (found,) = find_schedules(sentence, "Europe/Paris")
    assert found.config["timezone"] == zone
    assert found.description.endswith(f"({zone})")


def test_each_time_has_the_zone_that_stands_beside_it() -> None:
    found = find_schedules("every weekday at 8:00 CET and 17:00 PST", "Europe/Paris")
    assert [(one.config["cron"], one.config["timezone"]) for one in found] == [
        ("0 8 * * 1-5", "Europe/Berlin"),
        ("0 17 * * 1-5", "America/Los_Angeles"),
    ]


FIRST_DAYS = [("first Monday", 0), ("first Friday", 4), ("first Sunday", 6), ("third Sunday", 6)]


@pytest.mark.parametrize(("place", "weekday"), FIRST_DAYS)
def test_an_exact_day_of_the_month_fires_on_that_day_and_once_a_month(place: str, weekday: int) -> None:
    (found,) = find_schedules(f"on the {place} of every month at 9")
    fires = list(cron.fires(found.config["cron"], datetime(2026, 12, 31, tzinfo=UTC), "UTC", 24))
    assert [(fire.year, fire.month) for fire in fires] == [(2027 + n // 12, n % 12 + 1) for n in range(24)]
    assert {(fire.weekday(), (fire.day - 1) // 7) for fire in fires} == {(weekday, 2 * ("third" in place))}


def test_two_crons_hold_the_first_working_day_of_every_month() -> None:
    found = find_schedules("on the first working day of every month at 9")
    start = datetime(2026, 12, 31, tzinfo=UTC)
    fires = sorted(fire for one in found for fire in cron.fires(one.config["cron"], start, "UTC", 36))
    fires = [fire for fire in fires if fire.year < 2030]
    assert [(fire.year, fire.month) for fire in fires] == [(2027 + n // 12, n % 12 + 1) for n in range(36)]
    for fire in fires:
        earlier = [fire.replace(day=day).weekday() for day in range(1, fire.day)]
        assert fire.weekday() < 5
        assert all(weekday >= 5 for weekday in earlier)


def test_without_a_zone_in_the_sentence_the_given_one_is_used() -> None:
    (found,) = find_schedules("every day at 9", "Europe/Paris")
    assert found.config == {"cron": "0 9 * * *", "timezone": "Europe/Paris"}
    assert find_schedules("every day at 9 local time", "Europe/Paris")[0].config == found.config


@pytest.mark.parametrize(
    "sentence",
    [
        "when a webhook arrives",
        "on webhook, store the body",
        "When GitHub calls, label the issue",
        "when Stripe sends a webhook",
        "whenever it receives a webhook",
        "when a POST request arrives",
        "react to webhooks from Jira",
    ],
)
def test_a_webhook_is_heard(sentence: str) -> None:
    (found,) = find_schedules(sentence)
    assert (found.trigger_type, found.config) == ("webhook", {})


@pytest.mark.parametrize(
    ("sentence", "event_type", "source"),
    [
        ("when sales-bot emits lead.found", "lead.found", "sales-bot"),
        ("when the persona scout emits found", "found", "scout"),
        ("when researcher publishes event report_ready", "report_ready", "researcher"),
        ("when researcher publishes report.ready", "report.ready", "researcher"),
        ("after mail-boy finishes", "execution_completed", "mail-boy"),
        ("after Mail Boy completes, write a note", "execution_completed", "Mail Boy"),
        ("after the persona “Night Shift” finishes", "execution_completed", "Night Shift"),
        ("after daily-report finishes", "execution_completed", "daily-report"),
        ("run on the execution_completed of loader", "execution_completed", "loader"),
        ("when data-loader fails", "execution_failed", "data-loader"),
        ("whenever a `invoice.paid` event arrives", "invoice.paid", None),
        ("whenever an order.created event from shop arrives", "order.created", "shop"),
        ("on event order.created from shop", "order.created", "shop"),
        ("when event payment.failed is published", "payment.failed", None),
    ],
)
def test_an_event_is_heard(sentence: str, event_type: str, source: str | None) -> None:
    (found,) = find_schedules(sentence)
    assert found.trigger_type == "event"
    assert found.config == {"event_type": event_type, "source_filter": source}


def test_webhooks_events_and_schedules_stand_side_by_side() -> None:
    text = (
        "When Stripe sends a webhook, book it; after bookkeeper finishes, or daily at 8, write the journal."
    )
    assert [found.trigger_type for found in find_schedules(text)] == ["webhook", "event", "schedule"]


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "every invoice",
        "Check every file, every line and every word",
        "May the best one win",
        "I am at home in May",
        "send it to the office at 9 people",
        "The shop opens at 17:00",
        "I work 9-17",
        "Take the average of every 5 minutes of video",
        "at most 10 requests per hour",
        "every now and then",
        "every time I ask",
        "the second paragraph on the 3rd page",
        "give me 3 times the amount",
        "he sat in the sun",
        "the Monday report",
        "read my daily notes",
        "the daily-report folder",
        "everyday things",
        "post the result to the webhook",
        "after the download finishes",
        "whenever it finishes",
        "every 0 minutes",
        "every February on the 31st",
        "Every few hours, maybe",
        "write it to weekly.md",
        "read https://example.com/daily",
        "the end of the month report",
        "what I did during the week",
        "fix the bug on the 3rd and 4th lines",
        "on 24 December at noon",
        "from 3 files",
    ],
)
def test_other_words_are_no_schedule(sentence: str) -> None:
    assert find_schedules(sentence) == []


@pytest.mark.parametrize(
    ("sentence", "expression", "note"),
    [
        (
            "every other Tuesday at 10",
            "0 10 * * 2",
            "One cron cannot say “every other Tuesday”; this runs every week.",
        ),
        ("every 2 weeks on Monday", "0 9 * * 1", "this runs every week"),
        ("every second Wednesday of the month at 15:00", "0 15 * * 3", "this runs every week"),
        ("monthly on the last business day", "0 9 28 * *", "this runs on day 28, whatever day"),
        ("at the end of each quarter", "0 9 30 3,6,9,12 *", "day 30 of the quarter's last month"),
        ("every Friday the 13th", "0 9 13 * *", "this runs on day 13"),
        ("hourly, but not at night", "0 7-22 * * *", "Night was read as 22:00 to 07:00."),
        ("the last day of every month at 18:00", "0 18 28 * *", "this runs on day 28"),
        ("on the 31st of every month at noon", "0 12 31 * *", "Months without that day are left out."),
        ("on Monday at 9", "0 9 * * 1", "“on Monday” was read as every week."),
        ("every day at 25:00", "0 9 * * *", "“at 25:00” is no time of day."),
        ("3 times a day at 9 and 17", "0 9,17 * * *", "3 times a day were asked for, and 2 named."),
        ("Each morning, mail me the news at 7:30", "30 7 * * *", "taken from elsewhere in the sentence"),
    ],
)
def test_what_one_cron_cannot_say_is_noted(sentence: str, expression: str, note: str) -> None:
    (found,) = find_schedules(sentence)
    assert found.config["cron"] == expression
    assert note in found.note


def test_a_poll_notes_that_it_keeps_to_no_day() -> None:
    (found,) = find_schedules("every 45 minutes on weekdays")
    assert found.config == {"interval_seconds": 2700}
    assert "keeps to no day or time" in found.note


def test_the_span_is_where_the_words_stand() -> None:
    text = "Please, every weekday at 9am, read my mail."
    assert find_schedules(text) == [
        Schedule(
            "schedule", {"cron": "0 9 * * 1-5"}, "every weekday at 09:00", (8, 28), "every weekday at 9am"
        )
    ]
    assert text[8:28] == "every weekday at 9am"


VOCABULARY = """
    every each on at and , the of a once twice other second 2 3 9 17 31 45 9am 5:30 pm 17:00 noon minutes hours day
    days weeks month months quarter year weekday weekdays weekend monday Tue fridays morning evening night daily
    weekly monthly 1st 15th 31st last May February UTC Berlin time between from to until except when after webhook
    emits x.y event finishes times . x only first working quarter end not in night starting past top January 15
    CET PST
"""


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=80) | st.lists(st.sampled_from(VOCABULARY.split()), max_size=14).map(" ".join))
@example("every ſunday at 9 and ıst of the month")
@example("every year on 31 February")
def test_any_text_gives_triggers_that_work(text: str) -> None:
    last = 0
    for found in find_schedules(text, "Europe/Berlin"):
        assert found.description
        start, end = found.span
        assert last <= start < end <= len(text)
        assert found.text == text[start:end]
        last = start
        if found.trigger_type == "schedule":
            cron.check(found.config["cron"], found.config["timezone"])
        elif found.trigger_type == "polling":
            assert found.config["interval_seconds"] > 0
        elif found.trigger_type == "event":
            assert found.config["event_type"]
