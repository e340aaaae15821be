"""Ten million usage rows: made, rolled up, and asked over HTTP."""
