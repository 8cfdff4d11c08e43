"""The demo: linkspan's whole story, told in a private namespace. Run it with `scripts/demo`.

`story` is what is told, chapter by chapter; `teller` shows commands and checks what they did;
`world` is the small private world that all of it happens in; `talk` is a client that keeps a
connection open. Every claim is checked: the exit status says whether all of them held.
"""
