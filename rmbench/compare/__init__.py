"""Do models differ? `entrants` reads and refuses results, `report` has the numbers. From result files alone."""
