"""Google's API through google-genai. Image bytes bypass the SDK."""
