"""The tests of flashgate."""
