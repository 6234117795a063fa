/**
 * Flags for V8's garbage collection and for its objects. docs/decisions/0011 has the measurements.
 *
 * V8 learns which code makes long-lived objects, and then allocates them in the old generation at once. It learns that
 * wrongly for HTTP/2 streams. A dead stream in the old generation then keeps its call until the next full collection, so that
 * every call outlives the young generation. At 10,000 calls a second, a collection of the young generation took 23 ms, four times a second,
 * and a full collection 100 ms. With the flag it takes 3 ms and 20 ms.
 *
 * Node makes almost every header value of a call a string outside the heap. Only a full collection frees them, all at once:
 * 1.5 µs for each call since the last one, 0.8 µs with the settings of bin/waymark. So a full collection begins when the old generation has grown by half, not by
 * three times its size. It then has as much room again to mark beside the event loop. And no collection is made only because 100 s
 * have passed: that one compacts all pages, which takes 0.35 s on a small node and 1 s on a node with a million entries.
 *
 * protobuf-es sets the fields of a message by computed names. V8 turns an object with more than 16 such fields into a hash table: an entry
 * then takes a third longer to decode, and each read of it costs more too. The limit is above the largest message of Waymark.
 */
export const V8_FLAGS: readonly string[] = [
  "--no-allocation-site-pretenuring",
  "--heap-growing-percent=100",
  "--incremental-marking-soft-trigger=50",
  "--incremental-marking-hard-trigger=80",
  "--memory-reducer-gc-count=0",
  "--fast-properties-soft-limit=24",
];
