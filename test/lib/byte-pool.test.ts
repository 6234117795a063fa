/** Pooled byte arrays. */
import { expect, test } from "vitest";
import { takeBytes } from "../../src/lib/byte-pool.ts";

test("arrays are zeroed, of the size asked for, and never overlap", () => {
  const sizes = Array.from({ length: 3000 }, (_, i) => (i * 37) % 300);
  const arrays = sizes.map((size) => takeBytes(size));
  arrays.forEach((bytes, i) => {
    expect(bytes.length).toBe(sizes[i]);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
    bytes.fill(i & 255);
  });
  arrays.forEach((bytes, i) => {
    expect(bytes.every((byte) => byte === (i & 255))).toBe(true);
  });
});

test("a large array has a buffer of its own", () => {
  expect(takeBytes(100_000).buffer.byteLength).toBe(100_000);
});
