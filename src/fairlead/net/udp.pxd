# Compiled as it is written: udp.py has no types of C.
