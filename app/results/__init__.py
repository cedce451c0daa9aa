"""Pictures, finished generations and operations, as they are kept in Redis."""
