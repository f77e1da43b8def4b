"""The verbs: one table, from which magics, terminal, help, completion and docs are made."""
