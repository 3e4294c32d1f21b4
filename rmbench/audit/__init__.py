"""Can it be right? What tables of published figures and the examples of tasks say against themselves."""
