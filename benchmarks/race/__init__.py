"""What `benchmarks/speed.py` is made of: the data, the ways of scoring them, the clock and the table."""
