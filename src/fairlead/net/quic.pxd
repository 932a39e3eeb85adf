# Compiled as it is written: quic.py has no types of C.
