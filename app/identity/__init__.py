"""ID tokens that Google signs, checked with Google's own keys: who calls, without a secret of ours."""
