"""Do models differ? `entrants` reads and refuses results, `report` has the numbers, `distances` how far rewards are
apart. From result files alone."""
