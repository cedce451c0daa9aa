"""The Gemini REST API in miniature: a real HTTP server that validates, prices and draws without Google.

It knows the cards and nothing else of the application. Importing this package costs nothing; the parts
that draw are imported by ``server`` alone, which runs in a process of its own.
"""
