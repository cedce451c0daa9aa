"""Tenants, keys and budgets as operators write them, independent of where they are stored."""
