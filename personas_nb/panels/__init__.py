"""Widgets: one panel a file, each takes a ``Studio``.

A widget only takes input. What is so is shown beside it as an output of its own, the static twin, which stays true in
a saved notebook when the kernel is gone. Nothing in here decides by itself; the verbs open panels by the table.
"""
