"""Long work: its output is locked, what it was made from is known, and what is finished survives.

- ``outputs``: says before the work what would fail at its end, and lists what could not be done.
- ``locks``: keeps other processes from an output while it is made.
- ``fingerprint``: tells contents apart, whatever their names and times.
- ``unfinished``: the folder in which finished pieces of an output wait, with a note of what they were made
  from; other work is refused.

The output itself appears whole or not at all: see :mod:`protclip.files`.
"""
