"""The programs in examples/ against a real gateway."""
