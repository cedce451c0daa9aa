"""Clients that are too heavy for the suite: their scripts, their locks, and how each is run."""
