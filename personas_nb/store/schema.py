"""The names of all migrations, in order; kept apart so that an up-to-date file opens without sqlite-utils."""

NAMES = [
    "m001_initial",
    "m002_catalog",
    "m003_search",
    "m004_limits_and_healing",
    "m005_credentials",
    "m006_tools",
    "m007_lookup",
    "m008_approvals",
    "m009_design",
    "m010_evals",
    "m011_memories_and_versions",
    "m012_templates",
    "m013_postgres_query",
    "m014_triggers_and_events",
]
