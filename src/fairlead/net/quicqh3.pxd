# Compiled as it is written: quicqh3.py has no types of C.
