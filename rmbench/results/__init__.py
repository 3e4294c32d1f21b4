"""Results: `schema` says what a result holds, `files` reads and writes it, `records` is its table of candidates."""
