"""The process: OpenMP and threads, signals, locks, and how it starts and exits."""
