"""Every picture of the README, each made by a command: `make figures`."""
