import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { readEntry, readLeadingKey } from "../../src/catalog/entry-read.ts";

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
