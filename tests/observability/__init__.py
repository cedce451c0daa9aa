"""Tests of the observability part."""
