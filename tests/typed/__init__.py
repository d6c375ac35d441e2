"""The commands of the manual's pages, typed as they stand there."""
