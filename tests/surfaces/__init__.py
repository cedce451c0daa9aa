"""Tests of the surfaces part."""
