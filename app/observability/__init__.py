"""Metrics, logs and traces. Business code imports none of it."""
