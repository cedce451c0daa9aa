"""The ledger in Redis: holds, settlements, budgets, and what outlives a loss of the store."""
