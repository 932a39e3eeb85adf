# Compiled as it is written: quicends.py has no types of C.
