"""Reading data: files, hub sets, bundled rows, and the cards that describe them."""
