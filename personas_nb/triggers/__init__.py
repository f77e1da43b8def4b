"""Everything that starts a run: cron arithmetic, and what comes on top of it.

A trigger is arithmetic. Nothing in here reads a clock or a database unless its name says so.
"""
