/**
 * Thousands of messages of a few kilobytes that become megabytes, from a client without credentials; the edge's are in test/nightly.
 * @module-tag path
 */
import { test } from "vitest";
import { some } from "../fakes/effort.ts";
import { expectGzipFloodBounded, FLOOD_COUNT } from "../fakes/gzip-flood.ts";

test.each(some(["grpc", "health"] as const))(
  `%s: ${FLOOD_COUNT} gzip messages of 4 MB take less than 64 MB of memory, give it back, and an honest gzip client is answered`,
  async (kind) => expectGzipFloodBounded(kind),
);
