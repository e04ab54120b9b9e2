"""The tests of Gnomon; a package so that helpers are imported as `tests.…`."""
