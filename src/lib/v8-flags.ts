/**
 * How V8 shall collect garbage, and keep messages; docs/decisions/0011 has the measurements.
 *
 * It learns where objects that live long are made, and makes those to come straight in the old generation. It learns that
 * wrongly of HTTP/2 streams: one of these old and dead objects then keeps its call until the next full collection, so that
 * every call outlives the young generation. At 10,000 calls a second a collection of it took 23 ms, four times a second,
 * and a full one 100 ms; without this 3 ms and 20.
 *
 * Node makes nearly each header value of a call a string outside the heap, which only a full collection frees, all at once:
 * 1.5 µs a call since the last one, 0.8 with what bin/waymark sets. So one begins when the old generation grew by half, not by
 * three times its size; it then has as much room again to mark beside the event loop. And none is made only because 100 s
 * passed without: that one compacts all pages, 0.35 s on a small node and 1 s on one with a million entries.
 *
 * protobuf-es sets a message's fields by computed names, and V8 makes a hash table of an object that got more than 16 so: an entry
 * then takes a third longer to decode, and each look at it costs more too. The limit is above our largest message.
 */
export const V8_FLAGS: readonly string[] = [
  "--no-allocation-site-pretenuring",
  "--heap-growing-percent=100",
  "--incremental-marking-soft-trigger=50",
  "--incremental-marking-hard-trigger=80",
  "--memory-reducer-gc-count=0",
  "--fast-properties-soft-limit=24",
];
