"""Google's API through google-genai, with image bytes lifted past the SDK."""
