"""`edge run`: the gateway in the foreground, until a signal ends it."""
