"""One execution, from prompt to outcome.

Only ``runner`` lets text out: redact, scan for protocol messages, redact what was decoded, store, show.
Agents (what can run a prompt) live in ``agents``, one file an engine.
"""
