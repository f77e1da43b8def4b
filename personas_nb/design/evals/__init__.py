"""Evals: cases run against a design, a version or a model, scored, and compared.

``checks``, ``structure`` and ``comparison`` are arithmetic; ``judge`` asks a model; ``trials`` runs cases;
``evals`` is the room that holds them together.
"""
