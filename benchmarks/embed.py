"""Measure the people per second of `pipelines/embed.py`, and of the encoders alone on the same rows in memory.

    python benchmarks/embed.py                         # synthetic people of 128 pixels, created in a temporary folder
    python benchmarks/embed.py --data data/bench       # kept in this folder for the next time

The encoders alone are what an actor computes with: the same weights, batches, threads and precision, one process for
each of the program's actors, over crops that are cut out and decoded before. A process that is done with its share
waits for the others. Nothing is checked, read or written there. Of the program the actors are counted, from the first
part that one begins to the last that is written: reading, decoding, embedding and writing. Starting Ray and loading the
weights is a row of its own.
"""



