/** What a gzip message costs to read is bounded by what came, also where next to nothing comes of it. */
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { SharedInflater } from "../../src/grpc/wire/inflater.io.ts";
import type { InflateResult } from "../../src/grpc/wire/message-reader.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { slowGzip } from "../fakes/slow-gzip.ts";

const MAX_BYTES = 4 * 1_024 * 1_024;

function begun(bytes: Uint8Array): { readonly result: InflateResult | undefined; readonly ms: number } {
  const from = performance.now();
  const { result } = new SharedInflater().inflate({ encoding: "gzip", bytes, owner: {}, maxMessageBytes: MAX_BYTES });
  return { result, ms: performance.now() - from };
}

test("a long message that becomes nothing is refused unread: no compressor makes it", () => {
  const { result, ms } = begun(slowGzip(4_000_000, 0));
  expect(result).toBeInstanceOf(WaymarkError);
  expect(result).toMatchObject({
    reason: "invalid_argument",
    message: expect.stringContaining("but its trailer declares only 0 inflated bytes") as unknown,
  });
  expect(ms).toBeLessThan(20);
});

test("a message whose bytes are many is not read on the main thread, however few they become", () => {
  const bytes = slowGzip(20_000, 20);
  const { result } = begun(bytes);
  expect([bytes.length > 16_384, result]).toEqual([true, undefined]);
});

test("a small message is read at once, also one that cannot be compressed and has a name", () => {
  const { result } = begun(gzipSync("{}"));
  expect(Buffer.from(result instanceof Uint8Array ? result : "").toString()).toBe("{}");
  const name = Buffer.from(`${"n".repeat(500)}\0`);
  const plain = gzipSync(Uint8Array.of(1, 2, 3));
  const named = Buffer.concat([plain.subarray(0, 3), Buffer.of(8), plain.subarray(4, 10), name, plain.subarray(10)]);
  expect(begun(named).result).toEqual(Buffer.of(1, 2, 3));
});
