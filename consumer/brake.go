package consumer

import "time"

// heldWait is how long the brake holds a removal before the producer is asked for the record again.
const heldWait = 15 * time.Minute
