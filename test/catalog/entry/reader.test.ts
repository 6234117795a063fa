import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { readEntry, readLeadingKey, readRegisteredMs } from "../../../src/catalog/entry/reader.ts";

test("what is read starts with its key and knows where its content ends", () => {
  const key = { kind: 1, namespace: "svc.market", name: "web", instanceId: "web-1", clusterId: "local" };
  const bytes = toBinary(
    EntrySchema,
    create(EntrySchema, { key, scope: 2, tags: ["blue"], registeredAt: { seconds: 1n }, updatedAt: { seconds: 2n } }),
  );
  expect(readLeadingKey(bytes)?.key).toEqual(key);
  expect(readEntry(bytes).contentBytes).toBeLessThan(bytes.length);
  expect(readEntry(bytes.subarray(0, readEntry(bytes).contentBytes)).entry.tags).toEqual(["blue"]);
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
