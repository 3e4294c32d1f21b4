"""What a checkpoint is: `opened` finds all that it is made of and loads it, `rendering` makes its tokens."""
