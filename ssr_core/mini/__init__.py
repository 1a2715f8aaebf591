"""SSR Mini: the built-in tiny model family and the drawn world it lives in."""
