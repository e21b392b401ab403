"""A folder of photographs: found, decoded, kept in a cache, divided in two."""
