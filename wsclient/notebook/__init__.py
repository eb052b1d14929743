"""For notebooks: the messages of a client as frames of pandas, polars and Arrow."""
