"""The subcommands of the flashgate program."""
