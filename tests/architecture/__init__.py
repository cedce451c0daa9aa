"""Tests of the architecture part."""
