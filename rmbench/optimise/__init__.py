"""What optimising a reward does to the policy: best-of-n, tilting and what they cost, from results alone."""
