"""Before you pay: what each stage of a search costs, how long an engine takes for it. The command line may come in."""
