"""What a checkpoint is: `fingerprint` finds its files and hashes them, `weights` loads it, `rendering` makes its tokens."""
