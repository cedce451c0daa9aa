"""What it takes to add a size or a unit: few files, and nothing is dropped in silence."""
