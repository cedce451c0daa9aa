"""Tests of the stores of pictures and of what is stored in them."""
