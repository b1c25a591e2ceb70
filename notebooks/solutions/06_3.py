# Turn round everything that has a time, scan, and turn the result round again. A has none.
def scan_backwards(u, delta, A, B, C):
    u, delta, B, C = (x.flip(1) for x in (u, delta, B, C))
    return selective_scan(u, delta, A, B, C).flip(1)
