# Compiled as it is written: quicflow.py has no types of C.
