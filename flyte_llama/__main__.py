"""`python -m flyte_llama`: the same command line as `flyte-llama`."""

from flyte_llama.cli import main

if __name__ == "__main__":
    main()
