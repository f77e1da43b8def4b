"""Files of personas, ours and strangers': reading one gives an ImportReport, writing one gives its text.

One format a module: ``read(text, source)`` is pure (no I/O, no studio) and returns an `ImportReport`, or raises
``InvalidInput`` or ``TooLarge`` with one sentence and the next step; ``write(…)`` is pure too. What a stranger's
file says is data: it enables nothing, reaches no server, and its literal secrets are dropped by name.
"""
