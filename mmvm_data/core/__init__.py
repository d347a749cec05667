"""Types, errors, options, masks, polygons and run-length encoding; nothing here reads or writes files."""
