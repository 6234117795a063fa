/**
 * V8 flags for garbage collection and for objects. docs/decisions/0011 contains the measurements.
 *
 * V8 learns which code creates long-lived objects, and then allocates them directly in the old generation. It mistakes HTTP/2 streams for long-lived
 * objects. A dead stream in the old generation keeps its call in memory until the next full collection, so every call outlives the young generation.
 * At 10,000 calls per second, a collection of the young generation took 23 ms and ran four times per second, and a full collection took 100 ms. With
 * the flag, the times are 3 ms and 20 ms.
 *
 * Node makes almost every header value of a call a string outside the heap. These strings are freed only by a full collection, all in one step. The
 * cost is 1.5 µs for each call since the last collection, or 0.8 µs with the settings of bin/waymark. Therefore, a full collection begins when the old
 * generation has grown by half, instead of by three times its size. The collection then has the same amount of space again for marking in parallel
 * with the event loop. In addition, no collection starts only because 100 s have passed: such a collection compacts all pages, which needs 0.35 s on
 * a small node and 1 s on a node with a million entries.
 *
 * protobuf-es sets the fields of a message by computed names. V8 converts an object with more than 16 such fields into a hash table. Decoding an
 * entry then needs a third more time, and each read of the entry also costs more. The limit is above the number of fields in Waymark's largest
 * message.
 */
export const V8_FLAGS: readonly string[] = [
  "--no-allocation-site-pretenuring",
  "--heap-growing-percent=100",
  "--incremental-marking-soft-trigger=50",
  "--incremental-marking-hard-trigger=80",
  "--memory-reducer-gc-count=0",
  "--fast-properties-soft-limit=24",
];
