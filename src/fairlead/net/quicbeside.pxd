# Compiled as it is written: quicbeside.py has no types of C.
