"""Redis and Valkey: the ledger, the results, and the server that flashgate starts itself.

Nothing above this package knows Redis; nothing in it knows HTTP, Google or the settings.
"""
