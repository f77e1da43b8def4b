"""The nouns of the house: frozen, validated, one a file. They know no SQL, no HTML and no clock but ``now()``."""
