"""Output on a terminal: tables, live views, quoted values, cleaned text.

In: documents as the daemon gives them. Out: lines that fit the width. Asks nobody.
"""
