"""Where dead letters are kept, and how they are listed, shown and sent again."""
