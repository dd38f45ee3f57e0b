"""Reads standard input in pieces of ARGUMENT bytes, rests SECONDS after each, and prints the digest of it all."""

import hashlib
import os
import sys
import time

digest = hashlib.sha256()
while data := os.read(0, int(sys.argv[1])):
    digest.update(data)
    time.sleep(float(sys.argv[2]))
print(digest.hexdigest(), end="")
