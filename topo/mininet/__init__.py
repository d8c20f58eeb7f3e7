"""The same lab for Mininet users. The modules here import Debian's ``mininet``; nothing else in the project does."""
