"""What every surface shares: bodies, errors, headers, replies."""
