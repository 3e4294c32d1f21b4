"""Tables from result files alone: `entries` reads them, `columns` says what is shown, `build` makes them."""
