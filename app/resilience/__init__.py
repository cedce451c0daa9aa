"""What lets the gateway carry on: time limits, background tasks, steps that may fail, and what to say of faults."""
