"""An emulator of the Gemini REST API: a real HTTP server that validates, prices and draws without Google.

It knows the cards and nothing else of the application. Importing this package is cheap; only ``server``,
which runs in its own process, imports the parts that draw.
"""
