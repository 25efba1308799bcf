"""Report: result rows, curves and clips -> one page and tables."""
