"""The ledger against the bill that the emulator writes from prices of its own."""
