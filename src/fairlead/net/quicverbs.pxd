# Compiled as it is written: quicverbs.py has no types of C.
