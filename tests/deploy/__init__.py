"""The files that deploy flashgate, and how it behaves where they put it."""
