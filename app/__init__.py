"""The service: accounts, tokens and a catalogue of items over HTTP."""
