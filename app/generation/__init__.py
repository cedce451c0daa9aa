"""The path of a request, from a judged request to a settled result, and its ports."""
