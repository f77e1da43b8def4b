"""Real parts for tests: a scripted model server, and a guard against real hosts.

Standard library only, so that a tutorial may use the server without anything installed for tests.
"""
