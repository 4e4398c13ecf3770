"""End to end: the gateway as a process of its own, in front of real and misbehaving servers, spoken to by real clients."""
