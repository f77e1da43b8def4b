"""What can be typed after ``%persona`` and ``personas``: the one table of verbs.

Magics, terminal, help, completion and the reference are made from it. It imports nothing of the house, so that
a completion costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "flag", "integer", "money", "duration", "fields"]
PROVIDERS = ("anthropic", "litellm", "ollama", "custom", "rehearsal")
STATUSES = ("queued", "running", "waiting", "completed", "incomplete", "failed", "cancelled")


@dataclass(frozen=True)
class Argument:
    """A word after a verb, or (its name begins with ``--``) an option.

    ``kind`` says what the word becomes: ``duration`` is milliseconds, ``money`` US dollars. ``completer`` names
    what is offered for it. One that is ``greedy`` takes several words as one (a name with spaces).
    """

    name: str
    help: str
    kind: Kind = "text"
    default: object = None
    choices: tuple[str, ...] = ()
    completer: str = ""
    unit: str = ""
    short: str = ""
    many: bool = False
    required: bool = False
    greedy: bool = False
    terminal: bool = True

    @property
    def is_option(self) -> bool:
        """Whether it is typed with dashes."""
        return self.name.startswith("--")

    @property
    def key(self) -> str:
        """The name under which a handler finds it."""
        return self.name.lstrip("-").replace("-", "_")

    @property
    def usage(self) -> str:
        """How it is typed.

        >>> Argument("--max-turns", "", "integer", unit="N").usage
        '[--max-turns N]'
        """
        if not self.is_option:
            shown = (self.unit or self.name.upper()) + (" …" if self.many else "")
            return shown if self.required else f"[{shown}]"
        value = "" if self.kind == "flag" else f" {self.unit or 'X'}" + (" …" if self.many else "")
        return f"[{self.short or self.name}{value}]"


@dataclass(frozen=True)
class Verb:
    """One thing to type; ``handler`` is ``module:function`` in this folder, or in ``panels``.

    ``free_text`` names the argument that is the raw rest of the line. ``cell`` says what the cell below means;
    empty: the verb takes none. ``is_default``: the noun alone means this verb. ``keeps_secrets``: what is typed
    too much may be a secret and is not repeated.
    """

    words: str
    summary: str
    handler: str
    arguments: tuple[Argument, ...] = ()
    group: str = ""
    free_text: str = ""
    cell: str = ""
    keeps_secrets: bool = False
    is_default: bool = False
    examples: tuple[str, ...] = ()
    details: str = ""

    @property
    def noun(self) -> str:
        """The first word."""
        return self.words.partition(" ")[0]

    @property
    def sub(self) -> str:
        """The second word, if there is one."""
        return self.words.partition(" ")[2]

    @property
    def positionals(self) -> tuple[Argument, ...]:
        """The arguments without dashes, in order."""
        return tuple(argument for argument in self.arguments if not argument.is_option)

    @property
    def options(self) -> tuple[Argument, ...]:
        """The arguments with dashes, ``--help`` included."""
        return (*(argument for argument in self.arguments if argument.is_option), HELP)

    def option(self, word: str) -> Argument | None:
        """The option that is typed so."""
        return next((a for a in self.options if word == a.name or (a.short and word == a.short)), None)

    @property
    def usage(self) -> str:
        """The whole line, without ``%persona``."""
        return " ".join((self.words, *(argument.usage for argument in self.arguments))).strip()


HELP = Argument("--help", "Say what the verb does and takes.", "flag", short="-h")
RAW = Argument("--raw", "Fill no {name} from the notebook: every brace stays.", "flag")
PROVIDER = Argument(
    "--provider",
    "Who runs the model; rehearsal asks none and costs nothing.",
    choices=PROVIDERS,
    unit="P",
)
SESSION = Argument(
    "--session",
    "The design session; without it the last one of this kernel, else the newest.",
    completer="sessions",
    unit="ID",
)


def _name(
    *, required: bool = True, greedy: bool = True, what: str = "Slug, name or id of a persona."
) -> Argument:
    return Argument("name", what, completer="personas", required=required, greedy=greedy, unit="NAME")


def _id(of: str, completer: str) -> Argument:
    return Argument(
        "id", f"Id of the {of}, a unique beginning of it, or latest.", completer=completer, required=True
    )


_LIMITS = (
    Argument("--max-budget-usd", "What the run may cost, in US dollars.", "money", unit="X"),
    Argument("--max-turns", "How many times it may ask the model.", "integer", unit="N"),
    Argument("--timeout", "How long it may take: 90s, 5m, 2h; a plain number is seconds.", "duration", unit="90s|5m"),
)  # fmt: skip
_RUN_OPTIONS = (
    Argument("--output", "Keep the Execution in this variable, also when the run fails; in the background, its handle.",
             unit="VAR", short="-o", terminal=False),
    PROVIDER,
    *_LIMITS,
    Argument("--file", "Copy these files into the persona's inputs/ folder.", completer="files", unit="PATH",
             many=True),
    Argument("--background", "Go on in the background; the cell ends at once.", "flag", terminal=False),
    Argument("--explain", "Show prompt, tools and limits; run nothing.", "flag"),
    RAW,
    Argument("--quiet", "Show nothing in the notebook; in a terminal the result's text only.", "flag"),
    Argument("--no-raise", "Raise nothing when the run fails or is cancelled.", "flag"),
)  # fmt: skip

DESIGN = "Design"
PERSONAS = "Personas"
PROMPTS = "Prompts"
RUNS = "Runs"
GOVERN = "Decide, remember, pay"
ABOUT = "About"

VERBS: tuple[Verb, ...] = (
    Verb("", "What is there, what waits for you, what to type next.", "looking:overview", group=ABOUT),
    # ── design ──────────────────────────────────────────────────────────────────────────────────────────────
    Verb(
        "design",
        "Design a persona from a sentence, or an existing one anew.",
        "designing:design",
        (
            _name(required=False, what="What it will be called; that of an existing persona designs it anew."),
            Argument("instruction", "What it shall do, in your words.", unit='"INSTRUCTION"'),
            PROVIDER,
            Argument("--context", "Files to look at: specifications, samples.", completer="files", unit="FILE",
                     many=True),
            RAW,
        ),
        DESIGN,
        free_text="instruction",
        cell="the instruction",
        examples=(
            '%persona design "Every weekday at 9 read notes.txt and post a summary"',
            '%persona design mail-boy "Sort my mail" --provider rehearsal',
            "%%persona design mail-boy\nEvery morning, read the mail and tell me what is urgent.",
        ),
        details="A name before the instruction is one word or quoted, and the instruction is quoted then.",
    ),
    Verb(
        "answer",
        "Answer the question of the design.",
        "designing:answer",
        (Argument("text", "An option's text, its number, or your own words.", required=True, unit='"…"'), SESSION, RAW),
        DESIGN,
        free_text="text",
        cell="the answer",
        examples=('%persona answer "Every morning"', "%persona answer 2"),
    ),
    Verb(
        "refine",
        "Change the design in words; the rest of it stays.",
        "designing:refine",
        (Argument("text", "What shall be different.", required=True, unit='"…"'), SESSION, RAW),
        DESIGN,
        free_text="text",
        cell="the wish",
        examples=('%persona refine "Do it at 8 instead"', "%persona refine use my boss's mail too"),
    ),
    Verb("undo", "Take back the last answer or refinement.", "designing:undo", (SESSION,), DESIGN),
    Verb("feasibility", "Whether the design can work here, and what helps.", "designing:feasibility", (SESSION,),
         DESIGN),
    Verb(
        "apply",
        "Make the design a persona, or the next revision of one.",
        "designing:apply",
        (_name(required=False, what="What it shall be called."), SESSION),
        DESIGN,
        examples=("%persona apply", "%persona apply mail-boy"),
    ),
    Verb("sessions list", "Design sessions, the newest first.", "designing:sessions", (), DESIGN, is_default=True),
    Verb("sessions resume", "Go on with a session; one that has no design yet tries again.", "designing:resume",
         (_id("session", "sessions"),), DESIGN),
    Verb("sessions discard", "Forget a session; its persona stays.", "designing:discard", (_id("session", "sessions"),),
         DESIGN),
    # ── personas ────────────────────────────────────────────────────────────────────────────────────────────
    Verb("list", "All personas.", "looking:personas", (Argument("--archived", "Archived ones too.", "flag"),),
         PERSONAS),
    Verb("show", "One persona: what it is told, may use, may cost.", "looking:show", (_name(),), PERSONAS),
    Verb(
        "set",
        "Change fields of a persona.",
        "governing:change",
        (
            _name(greedy=False),
            Argument("fields", "One or more; a value is JSON where it parses, else text; None clears a limit.",
                     "fields", completer="fields", required=True, unit="FIELD=VALUE …"),
            RAW,
        ),
        PERSONAS,
        free_text="fields",
        examples=(
            "%persona set mail-boy max_turns=10 max_budget_usd=0.5",
            '%persona set mail-boy identity="You sort mail." timeout_ms=None',
            "%persona set mail-boy model_profile.model=claude-haiku-4-5",
        ),
    ),
    Verb("enable", "Let it run; an archived one comes back.", "governing:enable", (_name(),), PERSONAS),
    Verb("disable", "Let nothing start it.", "governing:disable", (_name(),), PERSONAS),
    Verb("archive", "Disable it and take it out of the list; everything is kept.", "governing:archive", (_name(),),
         PERSONAS),
    Verb(
        "delete",
        "Archive it; with --purge delete it and all that is stored of it.",
        "governing:delete",
        (_name(), Argument("--purge", "Delete for good: versions, memories, runs.", "flag")),
        PERSONAS,
    ),
    Verb("groups list", "Folders of personas.", "governing:groups", (), PERSONAS, is_default=True),
    Verb("groups create", "A new group; `set NAME group=…` puts a persona in.", "governing:create_group",
         (Argument("group", "What it is called.", required=True, greedy=True, unit="GROUP"),
          Argument("--color", "Hex, such as #0072B2.", unit="HEX")), PERSONAS),
    Verb("groups remove", "Delete a group; its personas stay.", "governing:remove_group",
         (Argument("group", "Its name.", completer="groups", required=True, greedy=True, unit="GROUP"),), PERSONAS),
    # ── prompts ─────────────────────────────────────────────────────────────────────────────────────────────
    Verb("versions", "The history of a prompt.", "looking:versions", (_name(),), PROMPTS),
    Verb(
        "diff",
        "What changed between two versions; without them, in the last one.",
        "looking:diff",
        (
            _name(greedy=False),
            Argument("a", "Number or tag of the older version.", completer="versions"),
            Argument("b", "Number or tag of the newer one.", completer="versions"),
        ),
        PROMPTS,
        examples=("%persona diff mail-boy", "%persona diff mail-boy 1 production"),
    ),
    Verb(
        "rollback",
        "Make an older prompt the current one, as a new version.",
        "governing:rollback",
        (_name(), Argument("version", "Its number or tag.", completer="versions", required=True)),
        PROMPTS,
    ),
    Verb(
        "tag",
        "Name a version, for example production.",
        "governing:tag",
        (
            _name(),
            Argument("version", "Its number.", completer="versions", required=True),
            Argument("tag", "One word; none takes the name away.", required=True),
        ),
        PROMPTS,
    ),
    # ── runs ────────────────────────────────────────────────────────────────────────────────────────────────
    Verb(
        "run",
        "Run a persona and watch it; the cell is its input.",
        "running:run",
        (_name(), *_RUN_OPTIONS),
        RUNS,
        cell="the input",
        examples=(
            "%persona run mail-boy",
            "%%persona run mail-boy -o result --max-budget-usd 0.10\nWhat is urgent in {mails}?",
            '%%persona run mail-boy\n{"rows": "{df}"}',
        ),
        details=(
            "The input is JSON when it starts with { or [ and parses, YAML when its first line is ---, else text. "
            "{name} is filled from the notebook's variables where it names one; in JSON and YAML a string that is "
            "exactly {name} becomes the object (a DataFrame as CSV, at most 200 rows)."
        ),
    ),
    Verb(
        "runs list",
        "Runs, the newest first.",
        "running:runs",
        (
            Argument("--persona", "Only of this one.", completer="personas", unit="NAME"),
            Argument("--status", "Only in this state.", choices=STATUSES, unit="STATUS"),
            Argument("--limit", "How many.", "integer", default=50, unit="N"),
        ),
        RUNS,
        is_default=True,
    ),
    Verb("runs show", "Every moment of a run.", "running:show", (_id("run", "runs"),), RUNS),
    Verb("runs cancel", "End a run; what it had is kept.", "running:cancel", (_id("run", "runs"),), RUNS),
    Verb("runs wait", "Follow a run to its end.", "running:wait",
         (_id("run", "runs"), Argument("--no-raise", "Raise nothing when it failed.", "flag")), RUNS),
    # ── decide, remember, pay ───────────────────────────────────────────────────────────────────────────────
    Verb("reviews list", "What waits for your decision.", "governing:reviews",
         (Argument("--all", "Decided ones too.", "flag"),), GOVERN, is_default=True),
    Verb("panel reviews", "Decide with buttons.", "panels.reviews:open_panel", (), GOVERN, is_default=True),
    Verb("reviews show", "One decision, with all that it is about.", "governing:show_review",
         (_id("review", "reviews"),), GOVERN),
    *(
        Verb(
            f"reviews {word}",
            f"{word.title()} what a persona asks for.",
            f"governing:{word}",
            (_id("review", "reviews"), Argument("note", "Why; the persona may read it.", unit="NOTE"), RAW),
            GOVERN,
            free_text="note",
            examples=(f"%persona reviews {word} latest looks right",) if word == "approve" else (),
        )
        for word in ("approve", "reject")
    ),
    Verb("healing list", "What failed, and what helps.", "governing:healing",
         (Argument("--all", "Resolved issues too.", "flag"),
          Argument("--persona", "Only of this one.", completer="personas", unit="NAME")), GOVERN, is_default=True),
    Verb(
        "healing resolve",
        "Say that an issue is dealt with.",
        "governing:resolve",
        (_id("issue", "healing"), Argument("note", "What was done.", unit="NOTE"), RAW),
        GOVERN,
        free_text="note",
        examples=("%persona healing resolve latest gave it a new key",),
    ),
    Verb("messages", "What personas told you.", "governing:messages",
         (Argument("--unread", "Only new ones.", "flag"),), GOVERN),
    Verb("memories list", "What a persona, or all of them, remember.", "governing:memories", (_name(required=False),),
         GOVERN, is_default=True, examples=("%persona memories mail-boy",)),
    Verb("memories pin", "Let a memory enter every prompt first.", "governing:pin", (_id("memory", "memories"),),
         GOVERN),
    Verb("memories delete", "Forget a memory.", "governing:forget", (_id("memory", "memories"),), GOVERN),
    Verb("tools list", "The catalog, and who may use what.", "governing:tools", (), GOVERN, is_default=True),
    *(
        Verb(
            f"tools {word}",
            summary,
            f"governing:{word}",
            (
                _name(greedy=False),
                Argument("tool", "A tool of the catalog.", completer="tools", many=True, required=True),
            ),
            GOVERN,
            examples=(f"%persona tools {word} mail-boy file_read http_request",) if word == "assign" else (),
        )
        for word, summary in (("assign", "Let a persona use tools."), ("unassign", "Take tools from a persona."))
    ),
    Verb(
        "tools approve-first",
        "Decide on each call of a tool before it is made.",
        "governing:approve_first",
        (
            _name(greedy=False),
            Argument("tool", "A tool that it has.", completer="tools", required=True),
            Argument("--off", "Do not ask any more.", "flag"),
        ),
        GOVERN,
        examples=("%persona tools approve-first mail-boy gmail_send",),
    ),
    Verb(
        "tools add",
        "Make a function of the notebook a tool.",
        "tooling:add",
        (
            Argument("function", "Name of a function that is defined in the notebook.", completer="functions",
                     required=True, unit="FUNCTION", terminal=False),
            Argument("--effect", "What a call changes; a rehearsal performs only none.",
                     choices=("none", "local", "outside"), default="outside", unit="EFFECT"),
            Argument("--main-thread", "Run it in the cell that waits for the run (matplotlib and the like).", "flag"),
            Argument("--timeout", "How long a call may take.", "duration", unit="90s|5m"),
        ),
        GOVERN,
        examples=("%persona tools add load_sales", "%persona tools add plot_sales --main-thread"),
        details="Its hints and docstring tell a model how to call it. It exists only in this kernel.",
    ),
    Verb("tools remove", "Take a function of a notebook out of the catalog.", "tooling:remove",
         (Argument("tool", "Its name.", completer="tools", required=True, unit="TOOL"),), GOVERN),
    Verb("servers list", "The MCP servers of a persona, or of all, and whether they work.", "tooling:servers",
         (_name(required=False),), GOVERN, is_default=True),
    Verb(
        "servers add",
        "Give a persona the tools of an MCP server.",
        "tooling:add_server",
        (
            _name(greedy=False),
            Argument("server", "What it is called; its tools are SERVER.TOOL.", required=True, unit="SERVER"),
            Argument("--url", "Where it answers, instead of a command.", unit="URL"),
            Argument("--env", "NAME=VALUE of its environment; a secret as NAME=credential:NAME.FIELD.",
                     many=True, unit="NAME=VALUE"),
            Argument("--header", "NAME=VALUE to send to a URL; a secret as NAME=credential:NAME.FIELD.",
                     many=True, unit="NAME=VALUE"),
            Argument("--from-env", "NAME=VAR: the value of NAME is in this kernel's variable VAR, and is sealed.",
                     many=True, unit="NAME=VAR"),
            Argument("--only", "Offer only these of its tools.", many=True, unit="TOOL"),
            Argument("--timeout", "How long a call may take.", "duration", unit="90s|5m"),
            RAW,
            Argument("command", "The program and its arguments.", unit="COMMAND …"),
        ),
        GOVERN,
        free_text="command",
        examples=(
            "%persona servers add mail-boy time uvx mcp-server-time",
            "%persona servers add mail-boy github --from-env GITHUB_TOKEN=MY_TOKEN -- npx -y server-github",
            "%persona servers add mail-boy wiki --url https://mcp.example.com/mcp --header "
            "Authorization=credential:wiki.header",
        ),
        details="It is started once, to list its tools; then at the first call of a run, and it ends with the run.",
    ),
    *(
        Verb(
            f"servers {word}",
            summary,
            f"tooling:{word}_server",
            (_name(greedy=False), Argument("server", "Its name.", completer="servers", required=True, unit="SERVER")),
            GOVERN,
        )
        for word, summary in (
            ("check", "Start a server, list its tools anew, end it."),
            ("remove", "Take a server from a persona, with its secrets."),
        )
    ),
    Verb("credentials list", "What is kept sealed, for which service, and whether it worked.", "credentials:listed", (),
         GOVERN, is_default=True),
    Verb(
        "credentials add",
        "Keep what a service needs, its secrets sealed; you are asked for what is missing.",
        "credentials:add",
        (
            Argument("name", "What you will call it; one word or quoted.", completer="credentials", required=True,
                     unit="NAME"),
            Argument("connector", "The kind of service.", completer="connectors", required=True, unit="CONNECTOR"),
            Argument("--from-env", "Take fields from environment variables of this process.",
                     completer="credential_fields", unit="FIELD=VAR", many=True),
            Argument("--set", "Fields that are no secret.", completer="plain_fields", unit="FIELD=VALUE", many=True),
            Argument("--replace", "Ask for the secrets anew.", "flag"),
        ),
        GOVERN,
        keeps_secrets=True,
        examples=(
            "%persona credentials add mail gmail --set user=me@example.com",
            "%persona credentials add mail gmail --set user=me@example.com --from-env app_password=MAIL_PASSWORD",
        ),
        details="A secret is never typed into the line or a cell, where it would be saved with the notebook. A "
        "credential that is complete already is not asked for again.",
    ),
    *(
        Verb(f"credentials {word}", summary, f"credentials:{word}",
             (Argument("name", "Its name.", completer="credentials", required=True, greedy=True, unit="NAME"),), GOVERN)
        for word, summary in (("check", "Log in with it, really."), ("remove", "Forget it with everything in it."))
    ),
    Verb("credentials rotate-key", "Seal every secret with a new key, and forget the old one.",
         "credentials:rotate_key", (), GOVERN,
         details="Copies of the home that were made before do not open afterwards."),
    Verb("connectors list", "The kinds of services that credentials are for.", "credentials:connectors", (), GOVERN,
         is_default=True),
    Verb("connectors show", "What a connector needs, and how to get it.", "credentials:connector",
         (Argument("name", "Its name.", completer="connectors", required=True, unit="NAME"),), GOVERN),
    Verb(
        "costs",
        "What runs cost, by persona and day.",
        "looking:costs",
        (
            _name(required=False),
            Argument("--days", "How many days back.", "integer", default=30, unit="N"),
        ),
        GOVERN,
    ),
    Verb(
        "metrics",
        "Runs as a DataFrame.",
        "looking:metrics",
        (
            _name(required=False),
            Argument("--days", "How many days back.", "integer", default=30, unit="N"),
        ),
        GOVERN,
    ),
    # ── about ───────────────────────────────────────────────────────────────────────────────────────────────
    Verb("health", "Whether the parts work.", "looking:health", (), ABOUT),
    Verb("help", "Every verb, or one of them.", "looking:help_",
         (Argument("verb", "A verb.", completer="verbs", greedy=True),), ABOUT),
)  # fmt: skip


def nouns() -> list[str]:
    """Every first word, in the table's order."""
    return list(dict.fromkeys(verb.noun for verb in VERBS if verb.noun))


def subs(noun: str) -> list[str]:
    """The second words of a noun; none for a verb that stands alone."""
    return [verb.sub for verb in VERBS if verb.noun == noun and verb.sub]


def canonical(word: str) -> str | None:
    """The noun that a first word means: itself, or the plural that it is the singular of.

    >>> canonical("review"), canonical("memory"), canonical("run"), canonical("nonsense")
    ('reviews', 'memories', 'run', None)
    """
    known = nouns()
    candidates = (word, f"{word}s", f"{word[:-1]}ies" if word.endswith("y") else "")
    return next((candidate for candidate in candidates if candidate in known), None)


def find(words: Sequence[str]) -> tuple[Verb | None, int]:
    """The verb that these words begin with and how many of them it is made of; None when there is none.

    >>> find(["runs", "show", "1a2b"])[0].words, find(["runs"])[0].words, find(["memories", "mail-boy"])[1]
    ('runs show', 'runs list', 1)
    """
    if not words:
        return VERBS[0], 0
    noun = canonical(words[0])
    if noun is None:
        return None, 0
    here = [verb for verb in VERBS if verb.noun == noun]
    if len(words) > 1 and (exact := [verb for verb in here if verb.sub and verb.sub == words[1]]):
        return exact[0], 2
    return next((verb for verb in here if verb.is_default or not verb.sub), None), 1


def groups(verbs: Iterable[Verb] = VERBS) -> dict[str, list[Verb]]:
    """The verbs by what they are about."""
    found: dict[str, list[Verb]] = {}
    for verb in verbs:
        found.setdefault(verb.group, []).append(verb)
    return found
