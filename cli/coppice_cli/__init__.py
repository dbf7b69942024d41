"""The `coppice` command. It knows which package owns which command and loads that package only when asked."""
