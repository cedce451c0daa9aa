"""Google's own dialect: google-genai and REST clients only change the base URL and the key."""
