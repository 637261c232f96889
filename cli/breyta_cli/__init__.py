"""The command line ``breyta``: parses arguments, calls breyta_spool, prints JSON. Nothing else."""
