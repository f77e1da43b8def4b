"""What personas tell the user, and how it gets there.

A message and its deliveries, one per channel of its persona, are written in one transaction (``outbox``); whichever
process lives sends them (``notifier``), each over its own way (``ways``). Nothing here starts a run.
"""
