"""The domain: requests, their estimates and their outcomes. No I/O, no clock, no framework."""
