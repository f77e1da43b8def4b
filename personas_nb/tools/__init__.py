"""Tools: the gateway that every call passes, and the built-in ones. Nothing calls a tool any other way."""
