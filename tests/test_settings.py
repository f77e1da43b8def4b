"""Where a setting comes from, and what is said about one that cannot be used."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from personas_nb.errors import SettingsError
from personas_nb.settings import FILE_NAME, RESERVED, Settings, default_home, load_settings

TOKEN = "sk-ant-do-not-echo-me"


def write(home: Path, text: str) -> Path:
    path = home / FILE_NAME
    path.write_text(text, encoding="utf-8")
    return path


def refusal(home: Path, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(home, environ or {})
    return str(caught.value)


# Precedence


def test_an_empty_home_has_the_documented_limits(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {})
    assert settings == Settings()
    assert (settings.timeout_ms, settings.max_turns, settings.max_budget_usd) == (300_000, 25, 1.0)
    assert (settings.output_limit_bytes, settings.import_limit_bytes) == (1_048_576, 10_485_760)
    assert (settings.retention_days, settings.retention_min_executions) == (90, 50)


def test_environment_wins_over_section_wins_over_default_section(tmp_path: Path) -> None:
    write(
        tmp_path,
        "[default]\nmax_turns = 1\nqueue_limit = 1\nretention_days = 1\n"
        "[staging]\nmax_turns = 2\nqueue_limit = 2\n",
    )
    settings = load_settings(tmp_path, {"PERSONAS_ENV": "staging", "PERSONAS_MAX_TURNS": "3"})
    assert (settings.max_turns, settings.queue_limit, settings.retention_days) == (3, 2, 1)
    assert settings.timeout_ms == 300_000


def test_without_an_environment_only_the_default_section_counts(tmp_path: Path) -> None:
    write(tmp_path, "[default]\nmax_turns = 1\n[development]\nmax_turns = 2\n[production]\nmax_turns = 3\n")
    assert load_settings(tmp_path, {}).max_turns == 1
    assert load_settings(tmp_path, {"PERSONAS_ENV": ""}).max_turns == 1
    assert load_settings(tmp_path, {"PERSONAS_ENV": "production"}).max_turns == 3


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    write(tmp_path, '[default]\nprovider = "ollama"\n')
    assert load_settings(tmp_path, {"PERSONAS_PROVIDER": " ", "PERSONAS_MAX_TURNS": ""}).provider == "ollama"


def test_variables_are_read_as_what_the_setting_takes(tmp_path: Path) -> None:
    settings = load_settings(
        tmp_path,
        {
            "PERSONAS_TIMEOUT_MS": "600_000",
            "PERSONAS_MAX_BUDGET_USD": "0.25",
            "PERSONAS_HTTP_ALLOWED_HOSTS": "Intranet.local, 10.0.0.7,",
            "PERSONAS_MODEL": "12",
            "PERSONAS_AUTH_TOKEN": TOKEN + "\n",
        },
    )
    assert (settings.timeout_ms, settings.max_budget_usd, settings.model) == (600_000, 0.25, "12")
    assert settings.http_allowed_hosts == ("intranet.local", "10.0.0.7")
    assert settings.auth_token is not None
    assert settings.auth_token.get_secret_value() == TOKEN


def test_the_file_takes_lists_and_whole_numbers_of_dollars(tmp_path: Path) -> None:
    write(tmp_path, '[default]\nhttp_allowed_hosts = ["localhost", "::1"]\nmax_budget_usd = 2\n')
    settings = load_settings(tmp_path, {})
    assert settings.http_allowed_hosts == ("localhost", "::1")
    assert settings.max_budget_usd == 2.0


def test_a_file_saved_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"\xef\xbb\xbf[default]\r\nmax_turns = 7\r\n")
    assert load_settings(tmp_path, {}).max_turns == 7


def test_names_that_say_where_things_are_are_no_settings(tmp_path: Path) -> None:
    environ = dict.fromkeys(RESERVED, "") | {"PERSONAS_HOME": str(tmp_path), "PERSONAS_KEYRING": "off"}
    assert load_settings(tmp_path, environ | {"PATH": "/bin"}) == Settings()


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        Settings().max_turns = 3  # type: ignore[misc]


# Refusals


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("max_turns = 0", "must be a whole number of at least 1, not 0."),
        ("max_turns = true", "must be a whole number of at least 1, not true."),
        ('max_turns = "25"', "must be a whole number of at least 1, not “25”."),
        ("max_turns = 2.5", "must be a whole number of at least 1, not 2.5."),
        ("max_budget_usd = inf", "must be a number of at least 0, not inf."),
        ("memory_limit_chars = -1", "must be a whole number of at least 0, not -1."),
        ('provider = "antropic"', "not “antropic”. Did you mean “anthropic”?"),
        ('engine = "cli"', "must be auto, claude or direct, not “cli”."),
        (
            'timezone = "Europe/Prag"',
            "such as Europe/Prague, not “Europe/Prag”. Did you mean “Europe/Prague”?",
        ),
        ('timezone = "Europe"', "must be an IANA time zone"),
        ('timezone = "../UTC"', "must be an IANA time zone"),
        ('base_url = "localhost:4000"', "must be a web address that begins with http:// or https://"),
        ('http_allowed_hosts = "localhost"', "must be a list of host names or addresses"),
        ('http_allowed_hosts = ["http://localhost/"]', "must be a list of host names or addresses"),
        ("timeout_ms = 1979-05-27", "not a date or time."),
    ],
)
def test_a_bad_value_is_refused_with_what_would_be_right(tmp_path: Path, line: str, said: str) -> None:
    path = write(tmp_path, f"[default]\n{line}\n")
    message = refusal(tmp_path)
    assert message.startswith(f"“{line.split()[0]}” in [default] of {path} must be ")
    assert said in message
    assert "pydantic" not in message
    assert "Input should" not in message


def test_a_bad_value_in_a_variable_names_the_variable_and_the_default(tmp_path: Path) -> None:
    assert refusal(tmp_path, {"PERSONAS_TIMEOUT_MS": "5m"}) == (
        "The environment variable PERSONAS_TIMEOUT_MS must be a whole number of at least 1, not “5m”. "
        "Correct it, or remove it: then it is 300_000."
    )


def test_a_bad_value_in_a_section_that_is_not_in_use_is_refused_too(tmp_path: Path) -> None:
    write(tmp_path, "[production]\nmax_turns = 0\n")
    assert "in [production] of" in refusal(tmp_path, {"PERSONAS_ENV": "staging"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auth_token", f'"{TOKEN[:7]}"'),
        ("auth_token", "12345678"),
        ("auth_token", f'["{TOKEN}"]'),
        ("base_url", '"https://me:pass@host/"'),
        ("base_url", f'"{TOKEN}"'),
    ],
)
def test_a_refused_secret_is_nowhere_in_the_error(tmp_path: Path, key: str, value: str) -> None:
    write(tmp_path, f"[default]\n{key} = {value}\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path, {})
    secret = value.strip('["]')
    assert secret not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_key_that_went_into_the_wrong_line_is_not_echoed(tmp_path: Path) -> None:
    assert TOKEN not in refusal(tmp_path, {"PERSONAS_PROVIDER": f"{TOKEN}-{TOKEN}"})


def test_a_broken_file_says_where_and_does_not_quote_it(tmp_path: Path) -> None:
    path = write(tmp_path, f'[default]\nauth_token = "{TOKEN}\nmax_turns = 3\n')
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path, {})
    assert str(caught.value).startswith(f"{path} is not valid TOML: it cannot be read from line 2, column ")
    assert TOKEN not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[default]\nmax_turn = 3\n",
            "“max_turn” in [default] of {path} is no setting. Did you mean “max_turns”?",
        ),
        ("[defaults]\n", "[defaults] in {path} is no section. Did you mean “default”?"),
        ("[x]\n", "There are [default], [development], [staging], [production]."),
        (
            "max_turns = 3\n",
            "“max_turns” in {path} stands outside a section. Put it below a line that says [default].",
        ),
        (
            "[default]\nkeyring = 'off'\n",
            "is no setting. Set the environment variable PERSONAS_KEYRING instead.",
        ),
    ],
)
def test_what_is_unknown_in_the_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    assert said.format(path=path) in refusal(tmp_path)


def test_an_unknown_variable_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    assert refusal(tmp_path, {"PERSONAS_TIMEOUT": "9"}) == (
        "The environment variable PERSONAS_TIMEOUT is no setting. Did you mean “PERSONAS_TIMEOUT_MS”?"
    )


def test_an_unknown_environment_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    assert refusal(tmp_path, {"PERSONAS_ENV": "prodution"}).endswith("Did you mean “production”?")
    assert "development, staging or production" in refusal(tmp_path, {"PERSONAS_ENV": "default"})


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.mkdir()
    assert refusal(tmp_path).startswith(f"{path} cannot be read: ")
    path.rmdir()
    path.write_bytes(b"[default]\nmodel = '\xff'\n")
    assert refusal(tmp_path) == f"{path} is not UTF-8 text. Save it as UTF-8."


@given(st.text(max_size=60))
def test_any_text_as_a_file_gives_settings_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    home = tmp_path_factory.getbasetemp() / "any"
    home.mkdir(exist_ok=True)
    (home / FILE_NAME).write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(SettingsError):
        assert isinstance(load_settings(home, {}), Settings)


# Time zone, home, reference


def test_the_zone_is_the_one_set_else_the_machines() -> None:
    assert Settings(timezone="Europe/Prague").zone() == "Europe/Prague"
    # A process of its own: the machine's zone is looked up once per process.
    program = "from personas_nb.settings import Settings; print(Settings().zone())"
    environ = os.environ | {"TZ": "America/Lima"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "America/Lima"


def test_the_home_is_the_one_named_else_the_users_data_folder(tmp_path: Path) -> None:
    assert default_home({"PERSONAS_HOME": str(tmp_path)}) == tmp_path
    assert default_home({"PERSONAS_HOME": "~/mine"}) == Path.home() / "mine"
    assert default_home({"PERSONAS_HOME": "mine"}).is_absolute()
    assert "personas_nb" in default_home({}).parts


def test_each_setting_has_a_row_with_its_unit() -> None:
    rows = {row.key: row for row in Settings.describe()}
    assert list(rows) == list(Settings.model_fields)
    assert rows["timeout_ms"].variable == "PERSONAS_TIMEOUT_MS"
    assert (rows["timeout_ms"].default, rows["provider"].default) == ("300_000", "not set")
    units = {
        "_ms": "Milliseconds",
        "_bytes": "Bytes",
        "_chars": "Characters",
        "_days": "Days",
        "_usd": "US dollars",
    }
    for key, row in rows.items():
        assert row.description.endswith(".")
        assert row.expected
        for suffix, unit in units.items():
            assert not key.endswith(suffix) or unit.lower() in row.description.lower()


def test_importing_settings_brings_in_neither_heavy_nor_unneeded_modules() -> None:
    unwanted = ["pydantic_settings", "platformdirs", "tzlocal", "tomllib", "zoneinfo", "pandas"]
    # pydantic itself may bring one in: what counts is what settings adds.
    program = (
        "import sys, pydantic; pydantic.BaseModel; pydantic.SecretStr; before = set(sys.modules)\n"
        "import personas_nb.settings\n"
        f"print(*[name for name in {unwanted!r} if name in set(sys.modules) - before])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
