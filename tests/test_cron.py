"""Cron arithmetic against 250 recorded cases and against a walk, minute by minute, of the vixie rules."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from personas_nb.errors import InvalidInput
from personas_nb.triggers import cron
from personas_nb.triggers.cron import fires, in_words, next_fire

CASES = Path(__file__).parents[2] / "shared" / "data" / "cron_cases.jsonl"
MINUTE = timedelta(minutes=1)


def local(text: str, tz: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz), fold=fold).astimezone(UTC)


def wall(moment: datetime, tz: str) -> str:
    return moment.astimezone(ZoneInfo(tz)).isoformat(sep=" ", timespec="minutes")


# The oracle: vixie cron itself, reduced to its idea. It wakes once a real minute. A wildcard job runs when the
# clock matches. A fixed-time job is looked up for every wall minute the clock has newly passed, which catches up
# after a gap, and holds still while the clock repeats itself.


def allowed(field: str, low: int, high: int) -> set[int]:
    values: set[int] = set()
    for term in field.split(","):
        span, _, step = term.partition("/")
        first, _, last = span.partition("-")
        start = low if span == "*" else int(first)
        end = high if span == "*" or (step and not last) else int(last or first)
        values.update(range(start, end + 1, int(step or 1)))
    return values


class Walk:
    def __init__(self, expression: str, tz: str) -> None:
        minute, hour, day, month, weekday = expression.split()
        self.zone = ZoneInfo(tz)
        self.minutes, self.hours = allowed(minute, 0, 59), allowed(hour, 0, 23)
        self.days, self.months = allowed(day, 1, 31), allowed(month, 1, 12)
        self.weekdays = {value % 7 for value in allowed(weekday, 0, 7)}
        self.both_days = day[0] == "*" or weekday[0] == "*"
        self.follows_real_time = minute[0] == "*" or hour[0] == "*"

    def matches(self, clock: datetime) -> bool:
        if clock.minute not in self.minutes or clock.hour not in self.hours or clock.month not in self.months:
            return False
        day, weekday = clock.day in self.days, clock.isoweekday() % 7 in self.weekdays
        return (day and weekday) if self.both_days else (day or weekday)

    def fires(self, after: datetime, minutes: int) -> Iterator[datetime]:
        moment = after.replace(second=0, microsecond=0) - timedelta(
            days=2
        )  # so that a repeated hour is known
        passed = self.clock(moment)
        for _ in range(2 * 24 * 60 + minutes):
            moment += MINUTE
            now = self.clock(moment)
            due = self.matches(now) if self.follows_real_time else False
            while not self.follows_real_time and passed < now:
                passed += MINUTE
                due = self.matches(passed) or due
            if due and moment > after:
                yield moment

    def clock(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone).replace(tzinfo=None)


CHANGES = {  # one change of the clock each, in UTC
    "America/New_York": ["2027-03-14T07:00", "2027-11-07T06:00", "2030-03-10T07:00"],
    "Europe/Berlin": ["2027-03-28T01:00", "2027-10-31T01:00", "2029-10-28T01:00"],
    "Australia/Lord_Howe": ["2027-04-03T15:00", "2027-10-02T15:30"],  # by half an hour
    "Antarctica/Troll": ["2027-03-28T01:00", "2027-10-31T01:00"],  # by two hours
    "America/Santiago": ["2027-04-04T03:00", "2027-09-05T04:00"],  # at midnight
    "Asia/Beirut": ["2027-03-27T22:00", "2027-10-30T21:00"],
    "Africa/Casablanca": ["2027-02-07T02:00", "2027-03-14T02:00"],  # away and back within weeks
    "Pacific/Apia": ["2011-12-30T10:00"],  # a whole day was left out
    "Asia/Kathmandu": ["2027-03-28T01:00"],
    "UTC": ["2027-03-28T01:00"],
}


def field(low: int, high: int, likely: list[int]) -> st.SearchStrategy[str]:
    number = st.sampled_from(likely) | st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.integers(1, max(2, (high - low) // 2))
    term = st.one_of(
        number.map(str), span, st.builds("{}/{}".format, span, step), st.builds("{}/{}".format, number, step)
    )
    stars = st.just("*") | step.map(lambda n: f"*/{n}")
    return st.one_of(stars, st.lists(term, min_size=1, max_size=3).map(",".join))


HOURS = field(0, 23, [0, 1, 2, 3, 4, 23])
EXPRESSIONS = st.builds(
    "{} {} {} {} {}".format,
    field(0, 59, [0, 15, 30, 45, 59]),
    HOURS,
    st.just("*") | field(1, 31, [1, 7, 28, 31]),
    st.just("*") | field(1, 12, [3, 10, 11]),
    st.just("*") | field(0, 7, [0, 6, 7]),
)
AROUND_A_CHANGE = st.sampled_from([(tz, at) for tz, changes in CHANGES.items() for at in changes]).flatmap(
    lambda place: st.tuples(
        st.just(place[0]),
        st.integers(-30 * 3600, 6 * 3600).map(
            lambda seconds: datetime.fromisoformat(place[1]).replace(tzinfo=UTC) + timedelta(seconds=seconds)
        ),
    )
)


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, AROUND_A_CHANGE)
@example("*/5 3 * * *", ("Australia/Lord_Howe", datetime(2027, 10, 2, 14, 0, tzinfo=UTC)))
@example("30 1 * * *", ("America/New_York", datetime(2027, 11, 7, 6, 10, tzinfo=UTC)))
@example("0 0 * * *", ("America/Santiago", datetime(2027, 9, 5, 3, 0, tzinfo=UTC)))
def test_it_fires_when_a_walk_of_every_minute_says_so(expression: str, place: tuple[str, datetime]) -> None:
    tz, after = place
    try:
        cron.parse(expression)
    except InvalidInput:
        assume(False)
    minutes = 3 * 24 * 60
    walked = list(Walk(expression, tz).fires(after, minutes))
    moment = after
    for expected in walked[:40]:
        moment = next_fire(expression, moment, tz)
        assert moment == expected
    if not walked:
        assert next_fire(expression, after, tz) > after + (minutes - 1) * MINUTE


@pytest.mark.parametrize(
    ("expression", "tz"),
    [
        ("30 2 * * *", "America/New_York"),
        ("30 1 * * *", "America/New_York"),
        ("*/20 2 * * *", "Europe/Berlin"),
        ("15 * * * 0", "Europe/Berlin"),
        ("15,45 1-3 * * 0", "Australia/Lord_Howe"),
        ("10 */3 1-7 3,4,9,10 0", "Australia/Lord_Howe"),
        ("0 9 29 2 *", "UTC"),
    ],
)
def test_a_chain_of_fires_through_two_years_is_the_walk(expression: str, tz: str) -> None:
    start = datetime(2027, 2, 1, tzinfo=UTC)
    walked = list(Walk(expression, tz).fires(start, 2 * 365 * 24 * 60))
    assert list(fires(expression, start, tz, len(walked))) == walked


@pytest.mark.corpus
def test_all_recorded_cases_are_met() -> None:
    if not CASES.exists():
        pytest.skip("the recorded cron cases are not on this machine")
    cases = [json.loads(line) for line in CASES.read_text().splitlines()]
    missed = [
        case
        for case in cases
        if next_fire(case["expr"], datetime.fromisoformat(case["after"]), case["tz"])
        != datetime.fromisoformat(case["expected"])
    ]
    assert len(cases) == 250
    assert missed == []


def test_a_fixed_job_in_the_gap_runs_once_right_after_it() -> None:
    found = list(fires("30 2 * * *", local("2027-03-13 12:00", "America/New_York"), "America/New_York", 2))
    assert [wall(fire, "America/New_York") for fire in found] == [
        "2027-03-14 03:00-04:00",
        "2027-03-15 02:30-04:00",
    ]


def test_a_fixed_job_in_the_repeated_hour_runs_the_first_time_only() -> None:
    found = list(fires("30 2 * * *", local("2027-10-30 12:00", "Europe/Berlin"), "Europe/Berlin", 2))
    assert [wall(fire, "Europe/Berlin") for fire in found] == [
        "2027-10-31 02:30+02:00",
        "2027-11-01 02:30+01:00",
    ]


def test_a_fixed_job_asked_for_within_the_second_pass_waits_for_the_next_day() -> None:
    second_pass = local("2027-10-31 02:10", "Europe/Berlin", fold=1)
    assert (
        wall(next_fire("30 2 * * *", second_pass, "Europe/Berlin"), "Europe/Berlin")
        == "2027-11-01 02:30+01:00"
    )


def test_a_wildcard_job_leaves_the_gap_out_and_runs_in_both_passes() -> None:
    assert (
        wall(
            next_fire("*/30 2 * * *", local("2027-03-28 01:00", "Europe/Berlin"), "Europe/Berlin"),
            "Europe/Berlin",
        )
        == "2027-03-29 02:00+02:00"
    )
    passes = fires("30 * * * *", local("2027-10-31 02:00", "Europe/Berlin"), "Europe/Berlin", 2)
    assert [wall(fire, "Europe/Berlin") for fire in passes] == [
        "2027-10-31 02:30+02:00",
        "2027-10-31 02:30+01:00",
    ]


def test_every_hour_written_as_a_range_is_a_fixed_job() -> None:
    after = local("2027-10-31 02:00", "Europe/Berlin")
    assert (
        wall(next_fire("30 0-23 * * *", after, "Europe/Berlin"), "Europe/Berlin") == "2027-10-31 02:30+02:00"
    )
    assert list(fires("30 0-23 * * *", after, "Europe/Berlin", 2))[1] == local(
        "2027-10-31 03:30", "Europe/Berlin"
    )


@pytest.mark.parametrize(
    ("expression", "days"),
    [
        ("0 0 13 * 5", ["2027-08-06", "2027-08-13", "2027-08-20"]),  # either
        ("0 0 13 * *", ["2027-08-13", "2027-09-13", "2027-10-13"]),
        ("0 0 */2 * 5", ["2027-08-13", "2027-08-27", "2027-09-03"]),  # both
        ("0 0 1-7 * */7", ["2027-08-01", "2027-09-05", "2027-10-03"]),  # the first Sunday
    ],
)
def test_day_of_month_and_day_of_week_are_either_unless_one_begins_with_a_star(
    expression: str, days: list[str]
) -> None:
    found = fires(expression, datetime(2027, 7, 31, tzinfo=UTC), "UTC", 3)
    assert [fire.date().isoformat() for fire in found] == days


def test_the_answer_is_later_than_after_to_the_microsecond() -> None:
    nine = datetime(2027, 3, 1, 9, tzinfo=UTC)
    assert next_fire("0 9 * * *", nine, "UTC") == nine + timedelta(days=1)
    assert next_fire("0 9 * * *", nine - timedelta(microseconds=1), "UTC") == nine
    assert next_fire("* * * * *", nine + timedelta(microseconds=1), "UTC") == nine + MINUTE


def test_after_may_be_in_any_zone_and_the_answer_is_in_utc() -> None:
    after = datetime(2027, 11, 7, 0, 45, tzinfo=ZoneInfo("America/New_York"))
    fire = next_fire("30 1 * * *", after, "America/New_York")
    assert fire.tzinfo is UTC
    assert fire == datetime(2027, 11, 7, 5, 30, tzinfo=UTC)  # in the repeated hour no local time equals it


def test_a_rare_date_is_found_many_years_on() -> None:
    # the year 2100 has no leap day, which makes this the longest wait there is
    assert next_fire("0 0 29 2 */7", datetime(2088, 3, 1, tzinfo=UTC), "UTC").year == 2128


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("@hourly", "0 * * * *"),
        ("@DAILY", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("0 0 * JAN-mar Mon,wed", "0 0 * 1-3 1,3"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * fri-sun", "0 0 * * 5,6,0"),
        ("  5/20\t* * * * ", "5,25,45 * * * *"),
        ("7-7/2 * * * *", "7 * * * *"),
    ],
)
def test_names_macros_and_ranges_mean_their_numbers(written: str, plain: str) -> None:
    one, other = cron.parse(written), cron.parse(plain)
    assert (one.minutes, one.hours, one.days, one.months, one.weekdays, one.fixed_time, one.either_day) == (
        *(other.minutes, other.hours, other.days, other.months, other.weekdays),
        *(other.fixed_time, other.either_day),
    )


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("61 * * * *", "“61” is no minute in “61 * * * *”. The minute goes from 0 to 59"),
        ("0 24 * * *", "The hour goes from 0 to 23"),
        ("0 0 0 * *", "The day of month goes from 1 to 31"),
        ("0 0 * jam *", "1 to 12, or jan to dec"),
        ("0 0 * * 8", "0 to 7, or sun to sat"),
        ("0 0 L * *", "“L” is no day of month"),
        ("5-1 * * * *", "write 1-5"),
        ("*/0 * * * *", "A step is 1 or more"),
        ("1,,2 * * * *", "empty part"),
        ("1-2-3 * * * *", "“1-2-3” is no minute"),
        ("٣ * * * *", "“٣” is no minute"),
        ("* * * *", "has 4 fields"),
        ("", "has 0 fields"),
        ("0 0 9 * * 1", "Leave out the first field, the seconds."),
        ("@reboot", "Use @hourly, @daily"),
        ("@fortnightly", "is no time that cron can hold"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 30-31 feb *", "never fires"),
        ("0 0 31 4,6,9,11 */2", "never fires"),
    ],
)
def test_a_wrong_expression_is_refused_with_what_would_be_right(expression: str, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        cron.check(expression, "UTC")
    assert says in str(refused.value)
    assert refused.value.hint


def test_an_impossible_date_beside_a_weekday_is_possible() -> None:
    assert next_fire("0 0 30 2 1", datetime(2027, 1, 1, tzinfo=UTC), "UTC") == datetime(
        2027, 2, 1, tzinfo=UTC
    )


@pytest.mark.parametrize("tz", ["Europe/Berln", "america/new_york"])
def test_an_unknown_zone_is_refused_with_the_nearest_one(tz: str) -> None:
    with pytest.raises(InvalidInput, match=r"Did you mean “(Europe/Berlin|America/New_York)”"):
        next_fire("0 9 * * *", datetime(2027, 1, 1, tzinfo=UTC), tz)


@pytest.mark.parametrize("tz", ["", "America", "/etc/passwd", "../UTC", "Mars/Olympus", "a\0b"])
def test_what_is_no_zone_is_refused(tz: str) -> None:
    with pytest.raises(InvalidInput, match="no time zone"):
        cron.check("0 9 * * *", tz)


def test_a_naive_after_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"datetime\.now\(UTC\)"):
        next_fire("0 9 * * *", datetime(2027, 1, 1), "UTC")


def test_the_end_of_the_calendar_is_refused_not_crashed_into() -> None:
    for expression in ("0 9 1 1 *", "* 9 1 1 *"):
        with pytest.raises(InvalidInput, match="does not fire again"):
            next_fire(expression, datetime(9999, 12, 31, 22, tzinfo=UTC), "Europe/Berlin")


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 9 * * 1-5", "every weekday at 09:00"),
        ("0 9 * * *", "every day at 09:00"),
        ("0 10 * * sat,sun", "every weekend day at 10:00"),
        ("30 17 * * 1,4", "every Monday and Thursday at 17:30"),
        ("0 9,17 * * *", "every day at 09:00 and 17:00"),
        ("* * * * *", "every minute"),
        ("*/15 * * * *", "every 15 minutes"),
        ("0 * * * *", "every hour"),
        ("20 * * * *", "every hour at 20 minutes past"),
        ("0 */2 * * *", "every 2 hours"),
        ("0 0 1 * *", "on day 1 of every month at 00:00"),
        ("0 9 1,15 * *", "on days 1 and 15 of every month at 09:00"),
        ("0 9 1 */3 *", "on day 1 of January, April, July and October at 09:00"),
        ("@yearly", "on day 1 of January at 00:00"),
        ("0 9 * 6-8 1", "every Monday in June to August at 09:00"),
        ("*/15 9-16 * * 1-5", "every 15 minutes from 09:00 to 16:45, on weekdays"),
        ("0 8-18 * * *", "every hour from 08:00 to 18:00"),
        ("0 9 13 * 5", "on day 13 of every month and also every Friday at 09:00"),
        ("0 9 1-7 * */7", "on Sundays that fall on days 1 to 7 of every month at 09:00"),
        ("0 9 1-31 * 1", "every day at 09:00"),
    ],
)
def test_words_say_what_the_expression_does(expression: str, words: str) -> None:
    assert in_words(expression) == words


def test_words_name_the_zone_when_there_is_one() -> None:
    assert in_words("0 9 * * *", "Asia/Tokyo") == "every day at 09:00 (Asia/Tokyo)"


def reading(expression: str) -> tuple[object, ...]:
    """What tells two expressions apart on an ordinary day, so that their words may not be the same."""
    walk = Walk(expression, "UTC")
    all_days, all_weekdays = len(walk.days) == 31, len(walk.weekdays) == 7
    if not walk.both_days and (all_days or all_weekdays):
        walk.days, walk.weekdays, walk.both_days = set(range(1, 32)), set(range(7)), True
    either = not walk.both_days
    return (walk.minutes, walk.hours, walk.days, walk.months, walk.weekdays, either)


SMALL = st.builds(
    "{} {} {} {} {}".format,
    st.sampled_from(["0", "5", "*/30", "0,30", "*/7", "0-59", "1-5", "*", "1,2,3,9"]),
    st.sampled_from(["9", "*/2", "9-17", "0,9", "*", "*/5", "3-5,9"]),
    st.sampled_from(["*", "1", "1-31", "*/2", "1,15", "1-7"]),
    st.sampled_from(["*", "1", "1,2", "*/3", "6-8"]),
    st.sampled_from(["*", "1", "1-5", "0,6", "*/2", "0-6"]),
)


def test_two_expressions_read_alike_only_if_they_do_alike() -> None:
    seen: dict[str, tuple[object, ...]] = {}

    @settings(max_examples=1500, deadline=None)
    @given(SMALL | EXPRESSIONS)
    def read(expression: str) -> None:
        try:
            words = in_words(expression)
        except InvalidInput:
            return
        assert seen.setdefault(words, reading(expression)) == reading(expression)

    read()


@given(st.text(max_size=40) | st.text("0123456789*/-, @aejmnosu", max_size=30))
def test_any_text_is_an_expression_or_is_refused(text: str) -> None:
    new_year = datetime(2027, 1, 1, tzinfo=UTC)
    with contextlib.suppress(InvalidInput):
        assert in_words(text)
        assert next_fire(text, new_year, "Europe/Berlin") > new_year


def test_the_module_brings_in_nothing_heavy() -> None:
    code = (
        "import sys, personas_nb.triggers.cron;"
        "print(*sorted({name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    third_party = {name for name in loaded if not name.startswith(("_", "sitecustomize", "usercustomize"))}
    assert third_party <= {"cronsim", "personas_nb", "dateutil"}
