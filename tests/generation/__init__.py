"""Tests of the generation part."""
