# Compiled as it is written: quicconn.py has no types of C.
