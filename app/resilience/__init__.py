"""Time limits, background tasks, optional steps, resources and diagnoses."""
