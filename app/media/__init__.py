"""Facts from bytes: signatures, sizes and base64. No I/O, except for the process that counts PDF pages."""
