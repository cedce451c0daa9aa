"""The native surface: the gateway's own dialect, under ``/v1``."""
