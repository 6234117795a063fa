/** The request and the text of server-sent events, of any rpc. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import type { Snapshot } from "../../../gen/waymark/catalog/v1/watch_pb.js";
import { LeadershipServiceSubscribeRequestSchema } from "../../../gen/waymark/control/v1/leadership_pb.js";
import { CatalogWatchRequestSchema, CatalogWatchResponseSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { eventReader, eventWriter } from "../../../src/server/edge/events.ts";

test("query parameters are the fields of a request: texts, lists with commas, booleans and enums", () => {
  const parameters = { namespace: "svc.a", tags: "blue,green", names_only: "true", scope: "zone" };
  expect(eventReader(CatalogWatchRequestSchema, Object.keys(parameters), "cursor")(parameters)).toEqual(
    create(CatalogWatchRequestSchema, {
      namespace: "svc.a",
      tags: ["blue", "green"],
      namesOnly: true,
      scope: 2,
    }),
  );
});

test.each([
  { parameters: { names_only: "yes" }, says: 'names_only: must be true or false, got "yes"' },
  { parameters: { scope: "moon" }, says: "scope: must be one of local, zone, region, global" },
])("an invalid parameter is named: $parameters", ({ parameters, says }) => {
  expect(eventReader(CatalogWatchRequestSchema, Object.keys(parameters), "cursor")(parameters)).toMatchObject({
    reason: "invalid_argument",
    message: expect.stringContaining(says) as string,
  });
});

test.each(["abc", "1.5", "18446744073709551616"])("the error for an invalid event id names the header: %s", (id) => {
  const read = eventReader(LeadershipServiceSubscribeRequestSchema, [], "after_id");
  expect(read({ after_id: "7" })).toEqual(create(LeadershipServiceSubscribeRequestSchema, { afterId: 7n }));
  expect(read({ after_id: id })).toMatchObject({
    reason: "invalid_argument",
    message: `invalid_argument: Last-Event-ID: must be the id of an event from this path, got "${id}"; leave it out to begin with the current state`,
  });
});

test("an event has its id, the first field that names it, and one line of JSON without characters that are unsafe to show", () => {
  const eventOf = eventWriter(CatalogWatchResponseSchema, { id: "revision", resume: "cursor", names: ["snapshot", "bookmark"] });
  const message = create(CatalogWatchResponseSchema, { snapshot: 3, bookmark: true, revision: 7n, servedBy: "a\nb\u202ec" });
  const json = '{"revision":"7","snapshot":"SNAPSHOT_END","bookmark":true,"servedBy":"a\\nb\\u202ec"}';
  expect(eventOf(message)).toBe(`id: 7\nevent: end\ndata: ${json}\n\n`);
  expect(eventOf(create(CatalogWatchResponseSchema, { bookmark: true }))).toBe('event: bookmark\ndata: {"bookmark":true}\n\n');
  expect(eventOf(create(CatalogWatchResponseSchema, { snapshot: 99 as Snapshot }))).toBe('event: 99\ndata: {"snapshot":99}\n\n');
  expect(eventOf(create(CatalogWatchResponseSchema))).toBe("data: {}\n\n");
});

test("an event route that names a field which its rpc lacks ends the start", () => {
  expect(() => eventWriter(CatalogWatchResponseSchema, { id: "number", resume: "cursor", names: [] })).toThrow("unknown field");
  expect(() => eventReader(CatalogWatchRequestSchema, ["colour"], "cursor")).toThrow("unknown field");
});
