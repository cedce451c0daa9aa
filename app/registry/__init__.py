"""Tenants that operators make while the gateway runs, kept in Redis and followed by every replica."""
