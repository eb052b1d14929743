"""Order books: kept up to date from the channels of a client, above the core."""
