"""Import and export: what lies between an archive and the formats."""
