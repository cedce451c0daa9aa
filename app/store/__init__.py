"""Redis and Valkey: clients, calls, topologies, access, key names and the embedded server.

Nothing in this package knows HTTP surfaces, Google's model or the settings.
"""
