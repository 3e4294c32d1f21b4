"""What a checkpoint is: `fingerprint` finds its files, `weights` loads them, `rendering` makes tokens of requests."""
