"""Detection of connections that move no bytes, one by one."""


class Progress:
    """Watches connections from the first look on.

    Args:
        patience: Seconds without a byte either way after which one is hanging.
    """

    def __init__(self, patience):
        self.longest = 0.0
        """Seconds without a byte, at most, that a connection has seen."""
        self._patience = patience
        self._seen = {}

    def hanging(self, results, now):
        """Return those of ``results`` that hang; the others have time until they do."""
        hanging = []
        for result in results:
            moved = result.sent + result.received
            before, since = self._seen.get(result, (None, now))
            if moved != before:
                since = now
                self._seen[result] = moved, since
            self.longest = max(self.longest, now - since)
            if now >= since + self._patience:
                hanging.append(result)
        return hanging
