"""The Admin API: tenants, keys, usage, purges and the audit log."""
