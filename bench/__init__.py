"""The bench: what TLS and relaying cost here, with `edge` and with its peers, as ratios of the same run.

Every target serves the same upstream through the same kind of TLS, as one worker pinned to one core, while the load
and the upstream run on another. Targets alternate in rounds within one run, because the cores of a shared machine
disturb each other: an absolute figure means little, the ratio to nginx in the same round means something. The figure
is the server's CPU time for each completed request, over all of its processes; throughput only says how busy it was.

Only loopback is used; everything that is started is ended; time and counts are bounded.
"""
