"""Tables from result files alone: `entries` reads them, `columns` says what is shown, `build` and `check` do it."""
