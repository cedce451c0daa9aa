"""HTTP code that all surfaces share: bodies, errors, headers, responses."""
