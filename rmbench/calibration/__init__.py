"""From rewards to probabilities: `maps` are the ways, `fit` fits them out of fold and judges them."""
