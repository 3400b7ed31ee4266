"""The text of --help."""
def help_text(conf, overrides): return ""
