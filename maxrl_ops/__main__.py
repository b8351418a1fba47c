"""`python -m maxrl_ops` is `maxrl-ops`."""

from maxrl_ops.cli.app import main

if __name__ == "__main__":
    main()
