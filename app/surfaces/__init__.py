"""The surfaces: families of routes, each in one dialect, over the one gateway."""
