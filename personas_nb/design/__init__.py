"""From a sentence to a persona: sessions, the offline designer, feasibility, applying."""
