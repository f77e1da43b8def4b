"""Secrets: the key, the cipher, the stored values, and the redactor that keeps them inside."""
