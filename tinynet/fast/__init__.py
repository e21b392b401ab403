"""Speed put on from outside: neighbouring layers in one pass over memory."""
