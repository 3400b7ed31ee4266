"""State of the whole process: its start and exit, signals, threads, locks, and several processes of one fit."""
