"""Before you pay: what a search costs, by stage and in milliseconds, and what is best. The command line may come in."""
