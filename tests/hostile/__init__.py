"""Input that nobody sends by accident, and the whole card, through a real gateway."""
