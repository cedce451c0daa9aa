"""Tenants, keys and budgets as operators write them; nothing here knows where they are kept."""
