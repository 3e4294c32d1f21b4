"""One page about the results of a run: `page` writes it, `curves` and `failures` say what is on it, `charts` draw."""
