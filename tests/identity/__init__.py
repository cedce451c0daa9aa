"""ID tokens: minted here, checked by the real parts with keys from a real server."""
