"""What operators do, free of any command line: the API will do the same."""
