"""`python -m impact_in` is `impact-in`."""

from impact_in.cli import main

if __name__ == "__main__":
    main()
