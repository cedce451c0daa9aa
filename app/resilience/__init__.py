"""What lets the gateway carry on: time limits, tasks, steps that may fail, and what to say of a fault."""
