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
IMPORT_FORMATS = ("n8n", "desktop", "subagent", "json", "notebook", "persona_md")
EXPORT_FORMATS = ("json", "notebook", "subagent", "persona_md")
CHANNEL_TYPES = ("slack", "telegram", "email", "apprise")
TRIGGER_TYPES = ("manual", "schedule", "polling", "webhook")
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

EVAL_SESSION = Argument(
    "--session", "A design session instead of a persona.", completer="sessions", unit="ID"
)


def _name(
    *, required: bool = True, greedy: bool = True, what: str = "Slug, name or id of a persona."
) -> Argument:
    return Argument("name", what, completer="personas", required=required, greedy=greedy, unit="NAME")


def _group(*, required: bool = True, greedy: bool = True) -> Argument:
    return Argument(
        "group", "Its name or id.", completer="groups", required=required, greedy=greedy, unit="GROUP"
    )


def _template() -> Argument:
    return Argument(
        "template", "Its name.", completer="templates", required=True, greedy=True, unit="TEMPLATE"
    )


def _members() -> Argument:
    return Argument("name", "Personas.", completer="personas", required=True, many=True, unit="NAME")


def _version() -> Argument:
    what = "Its number or tag, or current."
    return Argument("version", what, completer="versions", required=True, unit="VERSION")


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

_BYPASS = Argument(
    "--allow-bypass", "It may start a persona that may do everything (permissions “bypass”).", "flag"
)

DESIGN = "Design"
PERSONAS = "Personas"
PROMPTS = "Prompts"
RUNS = "Runs"
STARTS = "What starts them"
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
            Argument("--context", "What to look at: files (also OpenAPI, MCP, CSV, PDF), web addresses, names of "
                     "DataFrames.", completer="files", unit="FILE|URL|NAME", many=True),
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
    Verb("take", "Let the design have what you changed by hand.", "designing:take",
         (Argument("part", "instructions, triggers … as the card says, or all.", required=True, many=True, unit="PART"),
          SESSION), DESIGN, examples=("%persona take instructions", "%persona take all")),
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
    Verb("sessions show", "How a design came to be: what was said, what each step changed and cost.",
         "designing:show", (_id("session", "sessions"),), DESIGN),
    Verb("sessions discard", "Forget a session; its persona stays.", "designing:discard", (_id("session", "sessions"),),
         DESIGN),
    # ── files ───────────────────────────────────────────────────────────────────────────────────────────────
    Verb(
        "import",
        "Read a persona out of a file, a web address or a whole folder; what came of every part is shown.",
        "exchanging:import_",
        (
            Argument("source", "A path or http(s) address; of a folder, every file is read.", completer="files",
                     required=True, greedy=True, unit="FILE|URL|FOLDER"),
            Argument("--as", "The format; without it, what the content looks like.", choices=IMPORT_FORMATS,
                     unit="FORMAT"),
            Argument("--apply", "Make it a persona at once; what would start it by itself stays off.", "flag"),
        ),
        DESIGN,
        examples=(
            "%persona import flow.json",
            "%persona import agents/ --as subagent",
            "%persona import https://example.com/mail-boy.persona.json --apply",
        ),
        details="n8n workflows, Personas Desktop templates and exports, Claude Code subagents, .persona.md, and what "
        "`%persona export` writes. A file may not set permissions, bring keys, or start anything by itself.",
    ),
    Verb(
        "export",
        "Write a persona to a file, without secrets; what the format cannot hold is listed.",
        "exchanging:export",
        (
            _name(greedy=False),
            Argument("path", "The file; in a folder it is named after the persona.", completer="files",
                     required=True, greedy=True, unit="FILE"),
            Argument("--as", "The format; without it, what the ending says, else json.", choices=EXPORT_FORMATS,
                     unit="FORMAT"),
            Argument("--overwrite", "Replace a file that is no earlier export of this persona.", "flag"),
        ),
        DESIGN,
        examples=(
            "%persona export mail-boy mail-boy.persona.json",
            "%persona export mail-boy mail-boy.ipynb",
            "%persona export mail-boy .claude/agents/ --as subagent",
        ),
    ),
    # ── templates ───────────────────────────────────────────────────────────────────────────────────────────
    Verb("templates list", "Personas as notebooks that explain themselves, to begin with.", "templating:listed", (),
         DESIGN, is_default=True),
    Verb("templates show", "One template: what it does, and what you can set.", "templating:show", (_template(),),
         DESIGN, examples=("%persona templates show invoice-watcher",)),
    Verb(
        "templates use",
        "Open a copy of a template in this folder, and make its persona.",
        "templating:use",
        (
            _template(),
            Argument("--set", "Values of its parameters, as `%persona templates show NAME` lists them.",
                     completer="parameters", many=True, unit="NAME=VALUE"),
        ),
        DESIGN,
        examples=(
            "%persona templates use invoice-watcher",
            '%persona templates use arxiv-digest --set categories=stat.ME interests="causal inference"',
        ),
        details="The copy is named after the persona. One that you have changed is never replaced; another name makes "
        "another copy and another persona.",
    ),
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
    Verb("groups list", "Folders of personas, or one of them.", "grouping:groups", (_group(required=False),), PERSONAS,
         is_default=True, examples=("%persona groups", "%persona groups Finance")),
    Verb(
        "groups create",
        "A new group; an existing one gets what is given.",
        "grouping:create",
        (
            Argument("group", "What it is called.", required=True, greedy=True, unit="GROUP"),
            Argument("--color", "blue, green, orange, amber, plum, … or hex such as #0072B2.", completer="colors",
                     unit="COLOR"),
            Argument("--order", "Its place among the groups; the lowest comes first.", "integer", unit="N"),
        ),
        PERSONAS,
        examples=("%persona groups create Finance --color blue",),
    ),
    Verb(
        "groups set",
        "Change name, color, sort_order or collapsed.",
        "grouping:change",
        (
            _group(greedy=False),
            Argument("fields", "One or more; None takes a colour away.", "fields", completer="group_fields",
                     required=True, unit="FIELD=VALUE …"),
            RAW,
        ),
        PERSONAS,
        free_text="fields",
        examples=("%persona groups set Finance color=green sort_order=2", '%persona groups set Finance name="Money"'),
    ),
    Verb("groups collapse", "Show it as one line in lists.", "grouping:collapse", (_group(),), PERSONAS),
    Verb("groups expand", "Show its personas in lists again.", "grouping:expand", (_group(),), PERSONAS),
    Verb("groups remove", "Delete a group; its personas stay.", "grouping:remove", (_group(),), PERSONAS),
    Verb("groups add", "Put personas in.", "grouping:add", (_group(greedy=False), _members()), PERSONAS,
         examples=("%persona groups add Finance mail-boy invoice-watcher",)),
    Verb("groups take-out", "Take personas out of their group.", "grouping:take_out", (_members(),), PERSONAS),
    *(
        Verb(f"groups {word}", summary, f"grouping:{word}", (_group(),), PERSONAS)
        for word, summary in (
            ("enable", "Let all of its personas run."),
            ("disable", "Let nothing start any of them."),
            ("archive", "Take all of them out of the list; everything is kept."),
        )
    ),
    *(
        Verb(
            f"groups {word}",
            summary,
            f"grouping:{word}",
            (
                _group(greedy=False),
                Argument("tool", "A tool of the catalog.", completer="tools", many=True, required=True),
            ),
            PERSONAS,
        )
        for word, summary in (("assign", "Let all of them use tools."), ("unassign", "Take tools from all of them."))
    ),
    Verb(
        "groups run",
        "Run all of them at once and watch; the cell is the input of each.",
        "grouping:run",
        (
            _group(),
            *(option for option in _RUN_OPTIONS if option.name not in ("--explain", "--quiet")),
        ),
        PERSONAS,
        cell="the input of each",
        examples=("%persona groups run Finance", "%%persona groups run Finance\nWhat is new since yesterday?"),
        details="They share the places of this process (setting max_parallel_executions); the rest waits its turn.",
    ),
    # ── prompts ─────────────────────────────────────────────────────────────────────────────────────────────
    Verb(
        "versions list",
        "The history of a prompt, and how each state of it did.",
        "looking:versions",
        (_name(), Argument("--limit", "How many, the newest first.", "integer", default=25, unit="N")),
        PROMPTS,
        is_default=True,
        examples=("%persona versions mail-boy",),
    ),
    Verb("versions show", "One state of a prompt, whole.", "looking:version", (_name(), _version()), PROMPTS,
         examples=("%persona versions show mail-boy production",)),
    Verb(
        "diff",
        "What changed between two versions; without them, in the last one.",
        "looking:diff",
        (
            _name(greedy=False),
            Argument("a", "Number or tag of the older version.", completer="versions"),
            Argument("b", "Number or tag of the newer one, or current.", completer="versions"),
        ),
        PROMPTS,
        examples=("%persona diff mail-boy", "%persona diff mail-boy production current"),
    ),
    Verb(
        "rollback",
        "Make an older prompt the current one, as a new version.",
        "governing:rollback",
        (_name(), _version()),
        PROMPTS,
    ),
    Verb(
        "tag",
        "Name a version, for example production.",
        "governing:tag",
        (
            _name(),
            _version(),
            Argument("tag", "One word; none takes away the tag by which it was named, or all of them.",
                     required=True),
        ),
        PROMPTS,
    ),
    # ── evals ───────────────────────────────────────────────────────────────────────────────────────────────
    Verb("evals list", "The cases of a persona and what came of testing them; without a name, all evals.",
         "evaluating:evals", (_name(required=False, greedy=False), EVAL_SESSION), PROMPTS, is_default=True,
         examples=("%persona evals mail-boy",)),
    Verb(
        "evals add",
        "Write a case: an input, and what is expected of the answer; or make one of a run.",
        "evaluating:add",
        (
            _name(required=False, greedy=False),
            Argument("case", "What it is called; one word or quoted. Without it, the beginning of the input.",
                     completer="cases", unit="CASE"),
            EVAL_SESSION,
            Argument("--from", "Take input, files, tools and messages of this run.", completer="runs", unit="RUN"),
            Argument("--file", "Files of the input; copies are kept.", completer="files", many=True, unit="PATH"),
            Argument("--tools", "Tools that must be called.", completer="tools", many=True, unit="TOOL"),
            Argument("--no-tools", "Tools that must not be called.", completer="tools", many=True, unit="TOOL"),
            Argument("--messages", "Messages that must be sent, such as user_message.", many=True, unit="KIND"),
            Argument("--no-messages", "Messages that must not be sent.", many=True, unit="KIND"),
            Argument("--contains", "Texts that the answer has, in any case of letters.", many=True, unit="TEXT"),
            Argument("--excludes", "Texts that it does not have.", many=True, unit="TEXT"),
            Argument("--matches", "Regular expressions that are found in it.", many=True, unit="REGEX"),
            Argument("--max-cost-usd", "What the run may cost, in US dollars.", "money", unit="X"),
            Argument("--status", "How it ends.", choices=("completed", "incomplete", "failed"), unit="STATUS"),
            Argument("--criteria", "What a good answer is, in words for the judge.", unit="TEXT"),
            RAW,
        ),
        PROMPTS,
        cell="the input",
        examples=(
            "%%persona evals add reporter north --file sales.csv --tools file_read --contains North\n"
            "Which region sold more?",
            "%persona evals add reporter --from latest",
        ),
    ),
    Verb(
        "evals run",
        "Run the cases against a version, a model or a design, and score what comes.",
        "evaluating:run",
        (
            _name(required=False, greedy=False),
            Argument("--version", "Number or tag; without it, the current one.", completer="versions", unit="VERSION"),
            PROVIDER,
            Argument("--model", "Another model than the persona's.", unit="MODEL"),
            EVAL_SESSION,
            Argument("--case", "Only these cases.", completer="cases", many=True, unit="CASE"),
            Argument("--repeat", "How often each is run.", "integer", default=1, unit="N"),
            Argument("--no-judge", "Ask no model about meaning.", "flag"),
            Argument("--judge-provider", "Who judges; without it, what is configured.", choices=PROVIDERS, unit="P"),
            Argument("--judge-model", "The model that judges.", unit="MODEL"),
            Argument("--live-tools", "Really make calls outside, in every case; else they are described.", "flag"),
            Argument("--max-budget-usd", "What all runs together may cost, in US dollars.", "money", unit="X"),
        ),
        PROMPTS,
        examples=(
            "%persona evals run reporter --version 2",
            "%persona evals run reporter --model claude-haiku-4-5 --repeat 3",
        ),
        details="The persona stays as it is: a test has a folder of its own, remembers, sends and starts nothing, and "
        "counts as no run of it.",
    ),
    Verb("evals show", "One eval with the result of every case.", "evaluating:show", (_id("eval", "evals"),), PROMPTS),
    Verb(
        "evals compare",
        "What one eval has over another on the same cases, how surely, and when that is no difference.",
        "evaluating:compare",
        (
            _name(required=False, greedy=False),
            Argument("a", "A version, tag, model, or the id of an eval; without both, the last two.",
                     completer="versions"),
            Argument("b", "The other one.", completer="versions"),
            EVAL_SESSION,
        ),
        PROMPTS,
        examples=("%persona evals compare reporter 1 2", "%persona evals compare reporter"),
    ),
    Verb("evals remove", "Forget a case; what came of it stays.", "evaluating:remove",
         (_name(required=False, greedy=False),
          Argument("case", "Its name.", completer="cases", unit="CASE"), EVAL_SESSION),
         PROMPTS),
    Verb("evals patterns", "Designs that did well in evals; later designs look at them.", "evaluating:patterns", (),
         PROMPTS),
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
    # ── what starts them ────────────────────────────────────────────────────────────────────────────────────
    Verb("triggers list", "What starts personas by itself, when it is due, and who fires it.", "triggering:listed",
         (_name(required=False),), STARTS, is_default=True,
         examples=("%persona triggers", "%persona triggers mail-boy")),
    Verb(
        "triggers add",
        "Let something start a persona: a time, a period, a page that changes, a signed request.",
        "triggering:add",
        (
            _name(greedy=False),
            Argument("type", "What kind of trigger.", choices=TRIGGER_TYPES, required=True, unit="TYPE"),
            Argument("--description", "What it is for.", unit='"…"'),
            Argument("--off", "Add it switched off.", "flag"),
            _BYPASS,
            RAW,
            Argument("config", "A time in words (every weekday at 9), cron, or KEY=VALUE: cron, timezone, "
                     "interval_seconds, url, catch_up.", completer="trigger_fields", unit="WHEN|KEY=VALUE …"),
        ),
        STARTS,
        free_text="config",
        examples=(
            "%persona triggers add mail-boy schedule every weekday at 9",
            '%persona triggers add mail-boy schedule "mondays at 8:30" timezone=Europe/Berlin catch_up=all',
            "%persona triggers add mail-boy schedule cron=*/20 8-18 * * 1-5",
            "%persona triggers add mail-boy polling every 15 minutes url=https://example.com/prices.json",
            "%persona triggers add mail-boy webhook",
        ),
        details="catch_up says what becomes of due times that nobody fired: once (one run for all of them), skip, "
        "or all. A polling trigger with a url starts the persona only when what is there has changed.",
    ),
    Verb("triggers show", "One trigger: its next due times, and what became of the last ones.", "triggering:show",
         (_id("trigger", "triggers"),), STARTS),
    Verb(
        "triggers edit",
        "Change when or how a trigger fires; what is not named stays.",
        "triggering:edit",
        (
            _id("trigger", "triggers"),
            RAW,
            Argument("config", "As for add; None takes a key away.", completer="trigger_fields", required=True,
                     unit="WHEN|KEY=VALUE …"),
        ),
        STARTS,
        free_text="config",
        examples=("%persona triggers edit latest every weekday at 8:30", "%persona triggers edit 1a2b catch_up=skip"),
    ),
    Verb("triggers enable", "Switch a trigger on.", "triggering:enable", (_id("trigger", "triggers"), _BYPASS), STARTS),
    Verb("triggers disable", "Switch a trigger off; it stays.", "triggering:disable", (_id("trigger", "triggers"),),
         STARTS),
    Verb("triggers remove", "Forget a trigger and what became of it.", "triggering:remove",
         (_id("trigger", "triggers"),), STARTS),
    Verb("triggers pause", "Let nothing fire, of any persona, until resume; what is due is recorded as skipped.",
         "triggering:pause", (Argument("reason", "Why.", unit="REASON"), RAW), STARTS, free_text="reason",
         examples=("%persona triggers pause the mail server moves",)),
    Verb("triggers resume", "Let triggers fire again.", "triggering:resume", (), STARTS),
    Verb(
        "triggers fire",
        "Fire a trigger now; the cell is the input.",
        "triggering:fire",
        (_id("trigger", "triggers"), RAW),
        STARTS,
        cell="the input",
        examples=("%persona triggers fire latest",),
    ),
    Verb("triggers start", "Fire triggers from this kernel, in the background, while it lives.", "triggering:start", (),
         STARTS, details="One process of all fires the triggers of a home; the others stand by. In a terminal: "
         "`personas triggers run`."),
    Verb("triggers stop", "Fire triggers from this kernel no longer; another process takes over at once.",
         "triggering:stop", (), STARTS),
    Verb("triggers status", "Who fires triggers, since when, what is next, what was late or skipped.",
         "triggering:status", (), STARTS),
    Verb(
        "triggers run",
        "Fire triggers from this terminal until it is ended, and say what fires.",
        "headless:run",
        (
            Argument("--grace", "How long runs that go on may take when it is ended.", "duration", default=20_000,
                     unit="90s|5m"),
        ),
        STARTS,
        examples=("%persona triggers run", "%persona triggers run --grace 5m"),
        details="In a terminal, or as a service. SIGTERM or Ctrl-C lets another process take over at once and waits "
        "for what runs; a second one ends it at once.",
    ),
    Verb(
        "triggers history",
        "What became of each due time: a run, or why there is none; and how late it was.",
        "triggering:history",
        (
            Argument("trigger", "Id of a trigger; without it, of all.", completer="triggers", unit="ID"),
            Argument("--status", "Only these.", choices=("queued", "skipped", "checking"), unit="STATUS"),
            Argument("--all", "Also looks at an address that found nothing new.", "flag"),
            Argument("--limit", "How many.", "integer", default=25, unit="N"),
        ),
        STARTS,
    ),
    Verb(
        "triggers secret",
        "Show the secret of a webhook, in a terminal: a notebook would save it.",
        "triggering:secret",
        (
            _id("trigger", "triggers"),
            Argument("--file", "Write it into this new file, which only you can read, instead.", completer="files",
                     unit="PATH"),
        ),
        STARTS,
        examples=("%persona triggers secret 1a2b --file ~/order-desk.secret",),
    ),
    Verb(
        "events list",
        "What happened, what came of it, and who starts whom.",
        "eventing:listed",
        (
            _name(required=False),
            Argument("--type", "Only of this type.", completer="event_types", unit="TYPE"),
            Argument("--all", "Those of the system too that nobody heard.", "flag"),
            Argument("--days", "How far back the graph goes.", "integer", default=7, unit="N"),
            Argument("--limit", "How many.", "integer", default=20, unit="N"),
        ),
        STARTS,
        is_default=True,
        examples=("%persona events", "%persona events mail-boy --type invoice_found"),
    ),
    Verb("events show", "One event, whole, and what became of it.", "eventing:show", (_id("event", "events"),), STARTS),
    Verb(
        "events publish",
        "Say that something happened; who listens to it starts.",
        "eventing:publish",
        (
            Argument("type", "Its type, such as invoice_found.", completer="event_types", required=True, unit="TYPE"),
            Argument("--source", "Who says so.", default="user", unit="SOURCE"),
            RAW,
            Argument("data", "A JSON object.", unit="JSON"),
        ),
        STARTS,
        free_text="data",
        cell="the data",
        examples=('%persona events publish invoice_found {"number": "2026-101"}',),
        details="Data that is no JSON object comes under “value”.",
    ),
    Verb(
        "events subscribe",
        "Let a persona start when an event of a type happens.",
        "eventing:subscribe",
        (
            _name(greedy=False),
            Argument("type", "Its type; upper and lower case, “-”, “_” and “.” are the same.", completer="event_types",
                     required=True, unit="TYPE"),
            Argument("--from", "Only from this source; * stands for anything.", completer="personas", unit="SOURCE"),
            _BYPASS,
        ),
        STARTS,
        examples=(
            "%persona events subscribe mail-boy invoice_found",
            "%persona events subscribe mail-boy execution_failed --from invoice-*",
        ),
    ),
    Verb("events subscriptions", "Who listens to what.", "eventing:subscriptions", (_name(required=False),), STARTS),
    Verb("events unsubscribe", "Listen to it no longer.", "eventing:unsubscribe",
         (_id("subscription", "subscriptions"),), STARTS),
    Verb("events enable", "Switch a subscription on.", "eventing:enable",
         (_id("subscription", "subscriptions"), _BYPASS), STARTS),
    Verb("events disable", "Switch a subscription off; it stays.", "eventing:disable",
         (_id("subscription", "subscriptions"),), STARTS),
    Verb("events dead", "Events that started nobody though they should have, and why.", "eventing:dead",
         (Argument("--limit", "How many.", "integer", default=50, unit="N"),), STARTS),
    Verb("events replay", "Deliver an event or a dead letter again; everything is checked anew.", "eventing:replay",
         (_id("event", "dead"),), STARTS),
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
    Verb("messages list", "What personas told you, and where it was sent.", "notifying:messages",
         (Argument("--unread", "Only new ones.", "flag"),), GOVERN, is_default=True),
    Verb("messages retry", "Send what failed, or may not have arrived, once more.", "notifying:retry",
         (_id("delivery", "deliveries"),), GOVERN, examples=("%persona messages retry latest",)),
    Verb("channels list", "The ways to you that a persona has, or all of them, and whether they work.",
         "notifying:channels", (_name(required=False),), GOVERN, is_default=True,
         examples=("%persona channels mail-boy",)),
    Verb(
        "channels add",
        "Let a persona's messages go to Slack, Telegram, a mail address, or anywhere that apprise reaches.",
        "notifying:add",
        (
            _name(greedy=False),
            Argument("type", "Where they go.", choices=CHANNEL_TYPES, required=True, unit="TYPE"),
            Argument("setting", "channel=#NAME (slack), chat_id=ID (telegram), to=ADDRESS (email); name=… tells "
                     "several apart.",
                     completer="channel_fields", many=True, unit="KEY=VALUE"),
            Argument("--credential", "The credential that has the rest; without it, the only one that serves.",
                     completer="channel_credentials", unit="NAME"),
            Argument("--from-env", "Take a secret from an environment variable of this process.",
                     completer="channel_secrets", many=True, unit="KEY=VAR"),
        ),
        GOVERN,
        keeps_secrets=True,
        examples=(
            "%persona channels add mail-boy slack --from-env webhook=SLACK_WEBHOOK",
            "%persona channels add mail-boy slack channel=#sales --credential team",
            "%persona channels add mail-boy email to=ann@example.com",
            "%persona channels add mail-boy apprise",
        ),
        details="You are asked for an address or token that is missing; it is sealed. What a run tells you goes to "
        "every channel that is on; so does word of a run that nobody watched and that failed, or that asks for a "
        "decision. A rehearsal sends nothing.",
    ),
    *(
        Verb(f"channels {word}", summary, f"notifying:{word}_channel",
             (_name(greedy=False), Argument("number", "Its number in the list.", "integer", required=True, unit="N")),
             GOVERN)
        for word, summary in (
            ("remove", "Take a channel from a persona, with its secrets."),
            ("enable", "Let messages go there again."),
            ("disable", "Let nothing go there; it stays."),
        )
    ),
    Verb("channels test", "Really send a short message on every channel, or on one, and say what became of it.",
         "notifying:test", (_name(greedy=False), Argument("number", "Its number in the list.", "integer", unit="N")),
         GOVERN),
    Verb(
        "memories list",
        "What a persona, or all of them, remember, and what of it the last prompt was told and why.",
        "remembering:memories",
        (
            _name(required=False),
            Argument("--for", "What a run with this input would be told instead.", unit='"INPUT"'),
            Argument("--all", "Those too in whose place others hold.", "flag"),
            Argument("--limit", "How many.", "integer", default=50, unit="N"),
        ),
        GOVERN,
        is_default=True,
        examples=("%persona memories mail-boy", '%persona memories mail-boy --for "an invoice of ACME"'),
    ),
    Verb("memories show", "One memory, whole, and what it took the place of.", "remembering:show",
         (_id("memory", "memories"),), GOVERN),
    Verb(
        "memories add",
        "Tell a persona something to remember.",
        "remembering:add",
        (
            _name(greedy=False),
            Argument("--title", "A short label; without it the first words.", unit='"TITLE"'),
            Argument("--category", "What kind of knowledge.", unit="CATEGORY",
                     choices=("fact", "preference", "instruction", "context", "learned")),
            Argument("--importance", "1 to 10.", "integer", unit="N"),
            Argument("--tag", "Words to find it by.", many=True, unit="TAG"),
            Argument("--pin", "Let it enter every prompt first.", "flag"),
            Argument("--supersedes", "Title or id of what it takes the place of.", unit='"TITLE"'),
            RAW,
            Argument("text", "What to remember.", required=True, unit='"…"'),
        ),
        GOVERN,
        free_text="text",
        cell="what to remember",
        examples=('%persona memories add mail-boy "Acme pays on the 5th." --importance 8',),
        details="What it knows already is not written twice; the same title takes the place of what was known.",
    ),
    Verb(
        "memories edit",
        "Change fields of a memory.",
        "remembering:edit",
        (
            _id("memory", "memories"),
            Argument("fields", "title, content, category, importance, tags or pinned.", "fields",
                     completer="memory_fields", required=True, unit="FIELD=VALUE …"),
            RAW,
        ),
        GOVERN,
        free_text="fields",
        examples=('%persona memories edit latest importance=8 content="Acme pays on the 6th."',),
    ),
    *(
        Verb(f"memories {word}", summary, f"remembering:{handler}", (_id("memory", "memories"),), GOVERN)
        for word, summary, handler in (
            ("pin", "Let a memory enter every prompt first; no run replaces it.", "pin"),
            ("unpin", "Let a memory take its place by its score again.", "unpin"),
            ("restore", "Let one hold again in whose place another does.", "restore"),
            ("delete", "Forget a memory, with what it took the place of.", "forget"),
        )
    ),
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
