"""From a path to whole records: unpacking, damage, arrays of any size, and what a source is."""
