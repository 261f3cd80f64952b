"""The record: conversations, turns and what people said about them, in one SQLite file that loses nothing."""
