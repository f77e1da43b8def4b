"""What a person sees: entity or DataFrame in, text and HTML out. Entities know nothing of this."""
