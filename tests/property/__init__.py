"""Tests of the property part."""
