"""The command line, and the embedded AWS that the demo and the tests run on."""
