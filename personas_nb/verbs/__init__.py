"""The verbs: one table, from which magics, terminal, help, completion and docs are made.

- ``table`` says what can be typed, and imports nothing; ``parsing`` and ``filling`` turn a line into arguments.
- Handlers live in modules by topic (``designing``, ``running``, ``governing``, ``looking``), imported on use.
- A handler takes a ``Call`` and returns what is shown; it never prints, and knows no IPython: that is the
  business of a ``Surface``.
"""
