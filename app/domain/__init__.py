"""The domain: what is asked, what it may cost, what came of it. No I/O, no clock, no framework."""
