"""Answer requests for predictions over HTTP: serve.py run=outputs/… port=8000."""

from ratinglab.cli import serve

if __name__ == "__main__":
    serve()
