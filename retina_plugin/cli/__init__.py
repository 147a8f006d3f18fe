"""The ``retina`` command, one file a subcommand."""
