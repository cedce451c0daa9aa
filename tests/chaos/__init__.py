"""Everything goes wrong at once, and the books balance (reliability.md R79)."""
