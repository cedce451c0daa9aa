"""The OpenAPI document as its consumers see it: linters, generators, and callers of an older one."""
