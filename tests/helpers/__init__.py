"""What tests share: writers of data sets in their published formats, tiny runs, references, waiting.

*_files       a data set as it is given out, of synthetic people, so that what is true of it is known
local_*       a tiny run in this process, without Ray
*_program     a tiny run of one of the programs, in this process on the shared Ray or in a process of its own
"""
