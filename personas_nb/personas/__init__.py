"""Personas: create, change, group, version, remember."""
