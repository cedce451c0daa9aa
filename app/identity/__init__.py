"""Verification of ID tokens with Google's public keys."""
