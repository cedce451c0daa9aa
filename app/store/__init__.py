"""The store: the ledger and the results in Redis, the directory of tenants, and the embedded server."""
