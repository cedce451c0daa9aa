"""Google's own dialect: google-genai and plain REST callers change the base address and the key alone."""
