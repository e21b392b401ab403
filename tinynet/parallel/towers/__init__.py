"""One model cut into towers, one for each device, and the exchanges between them."""
