"""Pure values that know no framework: patterns, views, uses, sizes and what a frontend must offer."""
