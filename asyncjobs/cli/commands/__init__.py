"""The commands, a few to a file. Each turns arguments into one call of the library and shows its result."""
