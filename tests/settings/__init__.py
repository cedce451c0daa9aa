"""The settings: what the environment may hold."""
