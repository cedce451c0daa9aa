"""Surfaces: families of routes, each in one dialect, in front of the gateway."""
