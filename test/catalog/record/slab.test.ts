/** Byte strings in large buffers. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Slab } from "../../../src/catalog/record/slab.ts";
import { runs } from "../../fakes/effort.ts";

const MIB = 1_048_576;

interface Held {
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** Different bytes for every serial number. */
function bytesOf(size: number, serial: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = (serial * 31 + i * 7) & 255;
  return bytes;
}

function rounded(held: readonly Held[]): number {
  return held.reduce((sum, { bytes }) => sum + Math.ceil(bytes.length / 16) * 16, 0);
}

function expectHeld(slab: Slab, held: readonly Held[]): void {
  for (const { at, bytes } of held) {
    expect(Buffer.compare(slab.view(at, bytes.length), bytes)).toBe(0);
  }
}

test("whatever is put and freed in whatever order, what is held is what was put", () => {
  const size = fc.oneof(fc.integer({ min: 1, max: 200 }), fc.constantFrom(15, 16, 17, 4096, 65_535, 65_536));
  const anyStep = fc.oneof(
    size.map((put) => ({ put })),
    fc.nat().map((free) => ({ free })),
  );
  fc.assert(
    fc.property(fc.array(anyStep, { minLength: 50, maxLength: 400 }), (steps) => {
      const slab = new Slab();
      const held: Held[] = [];
      steps.forEach((step, serial) => {
        if ("put" in step) {
          const bytes = bytesOf(step.put, serial);
          held.push({ at: slab.put(bytes), bytes });
        } else {
          const [gone] = held.splice(step.free % Math.max(1, held.length), 1);
          if (gone !== undefined) slab.free(gone.at, gone.bytes.length);
        }
      });
      expectHeld(slab, held);
      const { usedBytes, freeBytes, chunks } = slab.stats();
      expect(usedBytes).toBe(rounded(held));
      expect(usedBytes + freeBytes).toBe(chunks * MIB);
    }),
    { numRuns: runs(60) },
  );
});

test("free then put of the same size takes the same place", () => {
  const slab = new Slab();
  const at = slab.put(bytesOf(140, 1));
  slab.put(bytesOf(140, 2));
  slab.free(at, 140);
  expect(slab.put(bytesOf(144, 3))).toBe(at);
});

test("replacing entries for ever takes no more chunks", () => {
  const slab = new Slab();
  const held = Array.from({ length: 20_000 }, (_, i): Held => ({ at: slab.put(bytesOf(150, i)), bytes: bytesOf(150, i) }));
  const { chunks } = slab.stats();
  for (let round = 0; round < 10; round++) {
    held.forEach(({ at, bytes }, i) => {
      const next = bytesOf(150, i + round);
      const moved = slab.put(next);
      slab.free(at, bytes.length);
      held[i] = { at: moved, bytes: next };
    });
  }
  expect(slab.stats().chunks).toBe(chunks);
  expectHeld(slab, held.slice(0, 500));
});

test("chunks emptied of one size serve another", () => {
  const slab = new Slab();
  const fill = (size: number, count: number): Held[] =>
    Array.from({ length: count }, (_, i) => ({ at: slab.put(bytesOf(size, i)), bytes: bytesOf(size, i) }));
  const empty = (held: readonly Held[]): void => {
    for (const { at, bytes } of held) slab.free(at, bytes.length);
  };
  empty(fill(100, 50_000));
  const { chunks } = slab.stats();
  for (const size of [300, 50, 1000, 17]) {
    const held = fill(size, Math.floor(4_500_000 / (Math.ceil(size / 16) * 16)));
    expectHeld(
      slab,
      held.filter((_, i) => i % 97 === 0),
    );
    empty(held);
    expect(slab.stats().chunks).toBe(chunks);
    expect(slab.stats().usedBytes).toBe(0);
  }
});

test("a freed large block serves smaller ones before a chunk is added", () => {
  const slab = new Slab();
  const large = Array.from({ length: 16 }, (_, i) => slab.put(bytesOf(65_536, i)));
  expect(slab.stats()).toEqual({ chunks: 1, usedBytes: MIB, freeBytes: 0 });
  slab.free(large[3]!, 65_536);
  const held = Array.from({ length: 65_536 / 160 }, (_, i): Held => ({ at: slab.put(bytesOf(150, i)), bytes: bytesOf(150, i) }));
  expect(slab.stats().chunks).toBe(1);
  expectHeld(slab, held);
  slab.put(bytesOf(150, 0));
  expect(slab.stats().chunks).toBe(2);
});

test.each([1, 16, 32, 33, 140, 5000])("%i bytes are copied to where they are wanted and nowhere else", (size) => {
  const slab = new Slab();
  slab.put(bytesOf(40, 1));
  const bytes = bytesOf(size, 2);
  const at = slab.put(bytes);
  const target = new Uint8Array(size + 20).fill(255);
  expect(slab.copyTo(at, size, target, 10)).toBe(10 + size);
  expect(target.subarray(10, 10 + size)).toEqual(bytes);
  expect([...target.subarray(0, 10), ...target.subarray(10 + size)].every((byte) => byte === 255)).toBe(true);
});

test("equality is of every byte and of the size", () => {
  const slab = new Slab();
  const bytes = bytesOf(100, 1);
  const at = slab.put(bytes);
  expect(slab.equals(at, 100, bytes)).toBe(true);
  expect(slab.equals(at, 60, bytes.subarray(0, 60))).toBe(true);
  expect(slab.equals(at, 99, bytes)).toBe(false);
  for (const i of [0, 50, 99]) {
    const other = bytes.slice();
    other[i]! ^= 1;
    expect(slab.equals(at, 100, other)).toBe(false);
  }
});

test("sizes it cannot hold and addresses it did not give are bugs of the caller", () => {
  const slab = new Slab(1000);
  expect(() => slab.put(new Uint8Array(0))).toThrow("the slab cannot store a value of this size");
  expect(() => slab.put(new Uint8Array(1009))).toThrow("the slab cannot store a value of this size");
  expect(() => slab.view(70_000, 10)).toThrow("the address is not in this slab");
  const at = slab.put(new Uint8Array(1008));
  slab.free(at, 1008);
  expect(() => slab.free(at, 1008)).toThrow("a slab block was freed twice");
});
