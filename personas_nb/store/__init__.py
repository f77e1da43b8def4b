"""The only place that speaks SQL: one SQLite file, its schema, its transactions, a generic table.

Classes of their own exist only for what needs more than a table: executions (claims) and run events.
Never hold ``write()`` open across a wait.
"""
