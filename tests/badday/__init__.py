"""Google on a bad day: every ending of a call through the whole service, and an hour of it in a minute."""
