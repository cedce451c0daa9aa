"""Everything goes wrong at once, and the books balance (docs/reliability.md R79)."""
