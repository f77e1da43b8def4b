"""n8n workflows: ``read(text, source)`` makes an ImportReport of the JSON that n8n exports.

``document`` reads the file and takes literal secrets out, ``schedules`` and ``triggers`` say what starts it,
``nodes``, ``services`` and ``agents`` what each node does, ``graph`` in which order, ``reader`` puts it together.
Nothing here asks a model or evaluates an expression; whatever the file says stands in the draft as marked text.
"""

from personas_nb.design.formats.n8n.reader import is_n8n, read

__all__ = ["is_n8n", "read"]
