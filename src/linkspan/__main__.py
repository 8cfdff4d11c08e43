"""`python -m linkspan` is the command line."""

from linkspan.cli import main

if __name__ == "__main__":
    main()
