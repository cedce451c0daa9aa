"""The surface of operators: tenants, keys, usage, purges and the audit log."""
