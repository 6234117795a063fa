import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { newLoadReport, readEntry } from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import { EntrySchema, LoadReportSchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { loadViewOf, MAX_TAIL_BYTES, readRegisteredMs, writeTail } from "../../../src/catalog/entry/view.ts";

const LAST_MS = 253_402_300_799_999;

test("load and times of the greatest values fit the room that is kept for them", () => {
  const out = new Uint8Array(1024);
  const greatest = Object.fromEntries(Object.keys(newLoadReport()).map((field) => [field, 2 ** 32 - 1]));
  const load = { ...loadViewOf({ ...newLoadReport(), ...greatest, observedAt: undefined }, LAST_MS), errorRate: 0.1, utilization: 0.1 };
  const end = writeTail(out, 0, { registeredWallMs: LAST_MS, updatedWallMs: LAST_MS, load });
  expect(end).toBeLessThanOrEqual(MAX_TAIL_BYTES);
});

test("a load report that does not say when it was measured counts from when it came, and is kept without what a message has beside it", () => {
  const report = create(LoadReportSchema, { activeClients: 1, latencyMs: 2, utilization: 0.5 });
  expect(loadViewOf(report, 1234)).toEqual({ activeClients: 1, errorRate: 0, latencyMs: 2, utilization: 0.5, observedWallMs: 1234 });
});

test("when a sealed entry was registered is read without the rest, after a load or before the other time", () => {
  const registeredAt = { seconds: 1_760_000_000n, nanos: 123_000_000 };
  const entry = { key: { namespace: "svc.market", name: "web" }, metadata: { registered: "no" }, registeredAt, updatedAt: { seconds: 2n } };
  for (const load of [undefined, { activeClients: 3, utilization: 0.5, observedAt: { seconds: 9n } }]) {
    const bytes = toBinary(EntrySchema, create(EntrySchema, { ...entry, ...(load !== undefined && { load }) }));
    // As our own encoder orders them: times come last.
    const { contentBytes } = readEntry(bytes);
    expect(readRegisteredMs(bytes, contentBytes)).toBe(1_760_000_000_123);
    expect(() => readRegisteredMs(bytes, bytes.length)).toThrow("registered_at");
  }
});
