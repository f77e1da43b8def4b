"""Environments, defaults and limits.

A value is looked up in this order; the first one found wins:

1. the environment variable ``PERSONAS_<KEY>``, as in ``PERSONAS_MAX_TURNS=10`` (empty is not set)
2. the section of ``personas.toml`` in the home that ``PERSONAS_ENV`` names: development, staging, production
3. its section ``[default]``
4. the default below

Every section is checked, also one that is not in use, so that a slip in ``[production]`` shows on the desk.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationError,
    field_validator,
)

from personas_nb.errors import SettingsError, did_you_mean

FILE_NAME = "personas.toml"
ENVIRONMENTS = ("development", "staging", "production")

PREFIX = "PERSONAS_"
# These say where things are; they are read before there are settings, and from nowhere else.
RESERVED = ("PERSONAS_HOME", "PERSONAS_ENV", "PERSONAS_KEY_FILE", "PERSONAS_KEYRING")

KIB = 1024
MIB = 1024 * KIB

_SWITCH = {"true": True, "on": True, "yes": True, "1": True} | {
    "false": False, "off": False, "no": False, "0": False,
}  # fmt: skip

Provider = Literal["anthropic", "litellm", "ollama", "custom", "rehearsal"]
Engine = Literal["auto", "claude", "direct"]
Count = Annotated[StrictInt, Field(ge=1)]


class SettingRow(NamedTuple):
    """One setting as the reference shows it; ``default`` and ``expected`` are words."""

    key: str
    variable: str
    default: str
    expected: str
    description: str


class Settings(BaseModel):
    """What a home is set to; frozen. ``load_settings`` makes it from the file and the environment.

    >>> Settings(max_turns=10).max_turns
    10
    """

    # hide_input_in_errors: pydantic would print a refused token.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    provider: Provider | None = Field(
        None,
        description="Who runs the model. Not set: anthropic if a key or credential for it exists, else rehearsal.",
    )
    model: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="The model's name at the provider. Not set: the provider's usual one."
    )
    base_url: str | None = Field(
        None, description="Address of the provider's API. Not set: the provider's own; ollama: this machine."
    )
    engine: Engine = Field(
        "auto",
        description="What runs a prompt: claude (the Claude CLI), direct (in-process), auto (by provider).",
    )
    auth_token: Annotated[SecretStr, Field(min_length=8)] | None = Field(
        None,
        description="The provider's key. A secret: better in a credential or the environment than in a file.",
    )
    cli_path: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="Path of the Claude CLI. Not set: the one that claude-agent-sdk brings."
    )
    claude_login: Literal["key", "user"] = Field(
        "key",
        description="How the Claude CLI reaches anthropic: key (a key is required), user (where there is no key, your "
        "own login of the CLI; it then works with your HOME, and keeps its notes in your ~/.claude).",
    )
    timezone: str | None = Field(
        None, description="IANA time zone for schedules that name none. Not set: the machine's."
    )

    timeout_ms: Count = Field(300_000, description="Milliseconds that one execution may take.")
    max_turns: Count = Field(25, description="Turns (requests to the model) that one execution may take.")
    max_budget_usd: Annotated[StrictFloat, Field(ge=0, allow_inf_nan=False)] = Field(
        1.0, description="US dollars that one execution may cost."
    )
    unknown_price_token_limit: Count = Field(
        200_000, description="Tokens that one execution may use where the model's price is unknown."
    )
    max_parallel_executions: Count = Field(4, description="Executions at once in one process.")
    queue_limit: Count = Field(100, description="Queued executions per persona; the next one is refused.")
    event_chain_depth: Count = Field(
        8,
        description="Executions that may start one another by events; the next event is a dead letter.",
    )

    input_limit_bytes: Count = Field(10 * MIB, description="Bytes of input of one execution.")
    output_limit_bytes: Count = Field(
        MIB, description="Bytes of output stored per execution; the rest is in its log."
    )
    log_limit_bytes: Count = Field(
        16 * MIB, description="Bytes of one log file of an execution; a longer log goes on in another."
    )
    log_file_count: Count = Field(4, description="Newest log files kept per execution.")
    protocol_object_limit_bytes: Count = Field(256 * KIB, description="Bytes of one protocol object.")
    context_file_limit_bytes: Count = Field(MIB, description="Bytes of one context file of a design.")
    context_text_limit_chars: Count = Field(
        20_000, description="Characters of one context file that a designer is shown; the cut is said."
    )
    import_limit_bytes: Count = Field(10 * MIB, description="Bytes of one file to import.")
    memory_limit_chars: Annotated[StrictInt, Field(ge=0)] = Field(
        6_000, description="Characters of memories in a prompt; 0 leaves them out."
    )

    tool_timeout_ms: Count = Field(120_000, description="Milliseconds that one tool call may take.")
    tool_output_limit_chars: Count = Field(
        20_000, description="Characters of a tool's output that are kept; the cut is marked."
    )
    file_limit_bytes: Count = Field(
        5 * MIB, description="Bytes of one file that file_read or file_write takes."
    )
    http_timeout_ms: Count = Field(30_000, description="Milliseconds that one http_request may take.")
    http_limit_bytes: Count = Field(5 * MIB, description="Bytes of one answer that http_request takes.")
    http_allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Hosts (or host:port) that http_request may reach though their address is private or loopback.",
    )

    mail_timeout_ms: Count = Field(
        60_000, description="Milliseconds that one connection to a mail server may take."
    )
    mail_limit_bytes: Count = Field(
        5 * MIB, description="Bytes of one mail that are fetched; the rest is cut, and said so."
    )
    mail_without_tls: Literal["never", "loopback"] = Field(
        "never", description="Mail servers that may be spoken to unencrypted: none, or those on this machine."
    )

    serve_triggers: StrictBool = Field(
        False,
        description="Whether a Jupyter server fires the triggers of this home while it runs: true or false. Webhooks "
        "that it takes are run by it in any case.",
    )
    webhook_rate_limit: Count = Field(
        2_000, description="Signed requests per minute that a Jupyter server takes for one webhook."
    )

    approval_expiry_days: Count = Field(7, description="Days until an undecided approval expires.")
    retention_days: Count = Field(
        90, description="Days that finished executions are kept, and what became of triggers and events."
    )
    retention_min_executions: Annotated[StrictInt, Field(ge=0)] = Field(
        50, description="Newest executions per persona that are kept however old they are."
    )

    @field_validator("base_url")
    @classmethod
    def _is_web_address(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
                raise ValueError("no web address")
            _ = parts.port  # raises ValueError for a port that is none
        return value

    @field_validator("timezone")
    @classmethod
    def _is_iana_zone(cls, value: str | None) -> str | None:
        if value is not None:
            from zoneinfo import ZoneInfo

            try:
                ZoneInfo(value)
            except (KeyError, OSError, ValueError):  # unknown, a folder of zones ("Europe"), a path
                raise ValueError("no time zone") from None
        return value

    @field_validator("http_allowed_hosts", mode="before")
    @classmethod
    def _are_hosts(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError("no list")
        if not all(
            isinstance(host, str) and re.fullmatch(r"[\w.-]+(:\d{1,5})?|[0-9a-fA-F:]+", host)
            for host in value
        ):
            raise ValueError("no host")
        return tuple(host.lower() for host in value)

    def zone(self) -> str:
        """The IANA name of the time zone of schedules that name none: ``timezone``, else the machine's.

        Raises SettingsError when the machine's configuration contradicts itself or names no known zone.
        """
        if self.timezone is not None:
            return self.timezone
        from zoneinfo import ZoneInfo

        from tzlocal import get_localzone_name

        try:
            zone = ZoneInfo(get_localzone_name() or "UTC").key
            return "UTC" if zone in ("Etc/UTC", "Etc/UCT", "Etc/Zulu") else zone
        except (KeyError, OSError, ValueError):
            raise SettingsError(
                "The machine's time zone cannot be told.",
                hint="Set timezone, as in PERSONAS_TIMEZONE=Europe/Prague.",
            ) from None

    @classmethod
    def describe(cls) -> list[SettingRow]:
        """A row for each setting, in order; the reference is made from it.

        >>> Settings.describe()[0].variable
        'PERSONAS_PROVIDER'
        """
        return [
            SettingRow(
                key, PREFIX + key.upper(), _in_words(field.default), _expected(key), field.description or ""
            )
            for key, field in cls.model_fields.items()
        ]


def default_home(environ: Mapping[str, str] | None = None) -> Path:
    """The folder that holds everything: ``PERSONAS_HOME``, else the user data folder. It is not created."""
    chosen = (os.environ if environ is None else environ).get("PERSONAS_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return platformdirs.user_data_path("personas_nb", appauthor=False)


def load_settings(home: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of ``home``, from ``personas.toml`` in it (which may be absent) and from the environment.

    ``environ`` is ``os.environ`` when not given. Raises SettingsError, naming the file or variable and what
    would be right, for anything unknown or unusable.

    >>> load_settings(Path("nowhere"), {"PERSONAS_MAX_TURNS": "10"}).max_turns
    10
    """
    environ = os.environ if environ is None else environ
    path = home / FILE_NAME
    sections = _read_sections(path)
    values = dict(sections.get("default", {}))
    if chosen := environ.get("PERSONAS_ENV"):
        if chosen not in ENVIRONMENTS:
            allowed = f"It may be {_either(ENVIRONMENTS)}; without it only [default] counts."
            raise SettingsError(
                f"PERSONAS_ENV is {_shown(chosen)}, which is no environment.",
                hint=did_you_mean(chosen, ENVIRONMENTS, otherwise=allowed),
            )
        values |= sections.get(chosen, {})
    values |= _read_environment(environ)
    return Settings.model_validate(values)


def _read_sections(path: Path) -> dict[str, dict[str, Any]]:
    known = ("default", *ENVIRONMENTS)
    document = _parse(path)
    for section, values in document.items():
        if not isinstance(values, dict):
            raise SettingsError(
                f"“{section}” in {path} stands outside a section.",
                hint="Put it below a line that says [default].",
            )
        if section not in known:
            allowed = f"There are {', '.join(f'[{name}]' for name in known)}."
            raise SettingsError(
                f"[{section}] in {path} is no section.", hint=did_you_mean(section, known, otherwise=allowed)
            )
        for key in values:
            _check_known(key, f"“{key}” in [{section}] of {path}")
        for key, value in values.items():
            _check_value(key, value, f"“{key}” in [{section}] of {path}")
    return document


def _parse(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return {}
    except OSError as problem:
        reason = problem.strerror or type(problem).__name__
        raise SettingsError(
            f"{path} cannot be read: {reason}.", hint="Make it a readable file, or remove it."
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text.", hint="Save it as UTF-8.") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        where = re.search(r"line (\d+), column \d+", str(problem))
        place = where[0] if where else "its end"
    # Outside the handler: the parser's error carries the document, which may hold a token.
    raise SettingsError(
        f"{path} is not valid TOML: it cannot be read from {place} on.",
        hint='Lines look like max_turns = 25 or provider = "anthropic", below [default].',
    )


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in RESERVED:
            continue
        key = variable.removeprefix(PREFIX).lower()
        if variable != variable.upper() or key not in Settings.model_fields:
            known = [PREFIX + name.upper() for name in Settings.model_fields] + list(RESERVED)
            near = did_you_mean(variable, known).upper().replace("DID YOU MEAN", "Did you mean")
            raise SettingsError(
                f"The environment variable {variable} is no setting.",
                hint=near or "Unset it, or see the settings' reference.",
            )
        if text.strip():
            values[key] = _from_text(key, text.strip())
            _check_value(key, values[key], f"The environment variable {variable}")
    return values


def _from_text(key: str, text: str) -> object:
    """The text as what the setting takes; what cannot be converted stays text, and is refused as such."""
    if key == "http_allowed_hosts":
        return [host.strip() for host in text.split(",") if host.strip()]
    default = Settings.model_fields[key].default
    if isinstance(default, bool):
        return _SWITCH.get(text.lower(), text)
    try:
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            return float(text)
    except ValueError:
        pass
    return text


def _check_known(key: str, place: str) -> None:
    if key in Settings.model_fields:
        return
    variable = PREFIX + key.upper()
    if variable in RESERVED:
        raise SettingsError(
            f"{place} is no setting.", hint=f"Set the environment variable {variable} instead."
        )
    otherwise = "Remove it, or see the settings' reference."
    raise SettingsError(
        f"{place} is no setting.", hint=did_you_mean(key, Settings.model_fields, otherwise=otherwise)
    )


def _check_value(key: str, value: object, place: str) -> None:
    try:
        Settings.model_validate({key: value})
    except ValidationError:
        pass
    else:
        return
    # Raised outside the handler: the caught error holds the value.
    shown = "" if key in ("auth_token", "base_url") else f", not {_shown(value)}"
    default = _in_words(Settings.model_fields[key].default)
    raise SettingsError(
        f"{place} must be {_expected(key)}{shown}.",
        hint=_nearest(key, value) or f"Correct it, or remove it: then it is {default}.",
    )


def _expected(key: str) -> str:
    """What a setting takes, in words."""
    special = {
        "base_url": "a web address that begins with http:// or https:// and holds no password",
        "auth_token": "a text of at least 8 characters",
        "timezone": "an IANA time zone such as Europe/Prague",
        "http_allowed_hosts": "a list of host names or addresses without scheme, port or path",
        "provider": _either(get_args(Provider)),
        "engine": _either(get_args(Engine)),
        "cli_path": "a path",
        "claude_login": "key or user",
        "mail_without_tls": "never or loopback",
        "model": "a text",
        "serve_triggers": "true or false",
    }
    if key in special:
        return special[key]
    field = Settings.model_fields[key]
    least = next(limit.ge for limit in field.metadata if hasattr(limit, "ge"))
    return f"a {'whole ' if isinstance(field.default, int) else ''}number of at least {least}"


def _nearest(key: str, value: object) -> str:
    if not isinstance(value, str):
        return ""
    if key == "provider":
        return did_you_mean(value, get_args(Provider))
    if key == "engine":
        return did_you_mean(value, get_args(Engine))
    if key != "timezone":
        return ""
    from zoneinfo import available_timezones

    names = {name.lower(): name for name in sorted(available_timezones())}
    near = difflib.get_close_matches(value.lower(), names, n=1, cutoff=0.6)
    return f"Did you mean “{names[near[0]]}”?" if near else ""


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _in_words(default: object) -> str:
    match default:
        case None:
            return "not set"
        case ():
            return "empty"
        case bool():
            return str(default).lower()
        case int():
            return f"{default:_}"
        case _:
            return str(default)


def _shown(value: object) -> str:
    """The value in words; a long one only by its length: it may be a key that went into the wrong line."""
    if isinstance(value, str):
        return f"“{value}”" if len(value) <= 24 else f"a text of {len(value)} characters"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, list):
        return "a list" if len(value) != 1 else f"a list of {_shown(value[0])}"
    return "a table" if isinstance(value, dict) else "a date or time"
