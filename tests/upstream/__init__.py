"""Tests of the upstream part."""
