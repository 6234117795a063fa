import { crc32 } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { BatchPut, WriteBatch } from "../../../src/catalog/batch.ts";
import { decodeRows, encodeBatch, ROW_KEY, rowKeyEnd, sealRow, visitBatch, visitRows } from "../../../src/store/journal/format.ts";

const put = fc.record({
  key: fc.string({ unit: "grapheme", maxLength: 40 }),
  seq: fc.maxSafeNat(),
  record: fc.uint8Array({ maxLength: 60 }),
  leaseId: fc.string({ maxLength: 8 }),
});
const lease = fc.record({
  leaseId: fc.string(),
  ttlMs: fc.nat(),
  principal: fc.string({ unit: "grapheme" }),
  idempotencyKey: fc.string(),
  grantedWallMs: fc.maxSafeNat(),
});
const batches: fc.Arbitrary<WriteBatch> = fc.record({
  forget: fc.array(fc.string({ unit: "grapheme" })),
  leases: fc.array(lease),
  puts: fc.array(put),
  endedLeases: fc.array(fc.string()),
  lastSeq: fc.maxSafeNat(),
  floor: fc.maxSafeNat(),
});

function decoded(buffer: ArrayBuffer): Pick<WriteBatch, "forget" | "leases" | "puts" | "endedLeases"> {
  const text = new TextDecoder("utf-8", { ignoreBOM: true });
  const out = {
    forget: [] as string[],
    leases: [] as WriteBatch["leases"][number][],
    puts: [] as BatchPut[],
    endedLeases: [] as string[],
  };
  visitBatch(buffer, {
    forget: (key) => out.forget.push(text.decode(key)),
    lease: (one) => out.leases.push(one),
    put: (row, leaseId) => {
      sealRow(row.bytes, 3, crc32);
      decodeRows(
        row.bytes,
        () => leaseId,
        (one) =>
          out.puts.push({
            ...one,
            key: text.decode(row.bytes.subarray(ROW_KEY, rowKeyEnd(row.bytes))),
            record: Uint8Array.from(one.record),
          }),
      );
    },
    endLease: (leaseId) => out.endedLeases.push(leaseId),
  });
  return out;
}

test("a batch reads back as it was encoded", () => {
  fc.assert(
    fc.property(batches, (batch) => {
      const { lastSeq: _lastSeq, floor: _floor, ...rest } = batch;
      expect(decoded(encodeBatch(batch))).toEqual(rest);
    }),
  );
});

function sealedRows(count: number): Uint8Array {
  const puts = Array.from({ length: count }, (_, i) => ({ key: `k${i}`, seq: i + 1, record: Uint8Array.of(i, 2, 3), leaseId: "" }));
  const rows: Uint8Array[] = [];
  visitBatch(encodeBatch({ forget: [], leases: [], puts, endedLeases: [], lastSeq: count, floor: 0 }), {
    forget: () => {},
    lease: () => {},
    put: (row) => {
      sealRow(row.bytes, 1, crc32);
      rows.push(row.bytes);
    },
    endLease: () => {},
  });
  return Uint8Array.from(rows.flatMap((row) => [...row]));
}

test("any flipped bit in stored rows is found, and the rows before it are given", () => {
  const rows = sealedRows(5);
  const rowBytes = rows.length / 5;
  fc.assert(
    fc.property(fc.nat(rows.length - 1), fc.nat(7), (at, bit) => {
      const damagedRows = Uint8Array.from(rows);
      damagedRows[at] = (damagedRows[at] ?? 0) ^ (1 << bit);
      let seen = 0;
      expect(visitRows(damagedRows, { afterSeq: 0, crc32 }, () => seen++)).toBeDefined();
      expect(seen).toBe(Math.floor(at / rowBytes));
    }),
  );
});

test.each([
  { name: "a row that is cut off", rows: sealedRows(2).slice(0, -1), afterSeq: 0, want: "longer than the stored data" },
  { name: "a header that is cut off", rows: sealedRows(2).slice(0, sealedRows(1).length + 10), afterSeq: 0, want: "truncated" },
  { name: "a row out of order", rows: sealedRows(2), afterSeq: 1, want: "has an invalid seq: 1" },
])("$name is damage", ({ rows, afterSeq, want }) => {
  expect(visitRows(rows, { afterSeq, crc32 }, () => {})?.problem).toContain(want);
});

test("whole rows in order are no damage", () => {
  const seqs: number[] = [];
  expect(visitRows(sealedRows(3), { afterSeq: 0, crc32 }, (seq) => seqs.push(seq))).toBeUndefined();
  expect(seqs).toEqual([1, 2, 3]);
});
