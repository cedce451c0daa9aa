"""Recorded requests that are sent again while their model is migrated."""
