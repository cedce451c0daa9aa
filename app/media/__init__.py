"""Bytes and what they are: signatures, sizes, base64. No I/O."""
