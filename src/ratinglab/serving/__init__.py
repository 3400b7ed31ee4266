"""HTTP server of a run: requests and answers, the app and its limits, reloading, and the web page."""
