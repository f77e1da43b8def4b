"""How a message leaves this machine: one way a module, each with the one question that matters afterwards.

Whether it may have arrived is told by the error: ``NotSent`` or ``MaybeSent``. No way retries anything by itself.
"""
