"""Monthly statements: one canonical document per tenant and month, made of usage rows and adjustments alone.

`figures` reads the ledger, `document` puts it into one text, `closing` finalises and verifies, `sheet` and `printed`
show the text as CSV and HTML.
"""
