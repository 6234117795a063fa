/** Ten thousand messages of a few kilobytes that become megabytes, from a client without credentials; the edge's are in test/nightly. */
import { test } from "vitest";
import { expectGzipFloodBounded } from "../fakes/gzip-flood.ts";

test.each(["grpc", "health"] as const)(
  "%s: 10,000 gzip messages of 4 MB take less than 64 MB of memory, give it back, and an honest gzip client is answered",
  async (kind) => expectGzipFloodBounded(kind),
);
