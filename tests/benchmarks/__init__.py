"""What an admission, a look-up and a request cost, as ratios within one run: ``make bench``."""
