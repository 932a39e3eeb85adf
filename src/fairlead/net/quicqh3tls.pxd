# Compiled as it is written: quicqh3tls.py has no types of C.
