import { fromJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { CatalogQueryRequestSchema, RegisterRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { findJsonFault } from "../../src/server/json-fault.ts";

test.each([
  { json: '{"scope":', field: "request", says: "invalid JSON" },
  { json: "[]", field: "request", says: "expected an object, got a list" },
  { json: '"x"', field: "request", says: 'expected an object, got "x"' },
  { json: '{"colour":1}', field: "colour", says: "unknown field of CatalogQueryRequest" },
  { json: '{"scope":"SCOPE_GALAXY"}', field: "scope", says: '"SCOPE_GALAXY" is not a value of Scope' },
  { json: '{"kinds":["ENTRY_KIND_SERVICE","NOPE"]}', field: "kinds[1]", says: '"NOPE" is not a value of EntryKind' },
  { json: '{"limit":"many"}', field: "limit", says: 'expected number (int32), got "many"' },
  { json: '{"limit":4294967296}', field: "limit", says: "out of range" },
  { json: '{"names":["a",7]}', field: "names[1]", says: "expected string, got 7" },
  { json: '{"names":"a"}', field: "names", says: 'expected a list, got "a"' },
  { json: '{"viewer":[]}', field: "viewer", says: "expected an object, got a list" },
  { json: '{"viewer":{"tenantID":"x"}}', field: "viewer.tenantID", says: "unknown field of Viewer" },
  { json: '{"pageToken":{}}', field: "page_token", says: "expected string" },
  { json: '{"maxStaleness":"5"}', field: "max_staleness", says: 'expected a duration in seconds such as "1.5s", got "5"' },
  { json: '{"maxStaleness":1}', field: "max_staleness", says: 'expected a duration in seconds such as "1.5s", got 1' },
  {
    json: '{"namespacePrefix":"a","namespace_prefix":"b"}',
    field: "namespace_prefix",
    says: "duplicate field: given as namespacePrefix and as namespace_prefix",
  },
  { json: '{"namespace":"a","namespace":"b"}', field: "namespace", says: "duplicate field name" },
  { json: '{"viewer":{"tenantId":"a","tenantId":"b"}}', field: "viewer.tenantId", says: "duplicate field name" },
  {
    json: '{"kinds":["service"]}',
    field: "kinds[0]",
    says: '"service" is not a value of EntryKind: allowed values are ENTRY_KIND_SERVICE, ',
  },
])("a query's fault is named by its path: $json → $field", ({ json, field, says }) => {
  const fault = findJsonFault(CatalogQueryRequestSchema, json);
  expect(fault?.field).toBe(field);
  expect(fault?.description).toContain(says);
});

test.each([
  { json: '{"entries":[{"key":{"kind":"ENTRY_KIND_SERVICE"}},{"targets":[{"port":1},{"port":-1}]}]}', field: "entries[1].targets[1].port" },
  { json: '{"entries":[{"metadata":{"team":"a","size":3}}]}', field: 'entries[0].metadata["size"]' },
  { json: '{"entries":[{"service":{},"function":{}}]}', field: "entries[0]" },
  { json: '{"entries":{}}', field: "entries" },
  { json: '{"entries":[{"load":{"observedAt":"today"}}]}', field: "entries[0].load.observed_at" },
])("a fault deep in a registration is named by its path: $field", ({ json, field }) => {
  expect(findJsonFault(RegisterRequestSchema, json)?.field).toBe(field);
});

test("two of which only one may be there are named", () => {
  expect(findJsonFault(RegisterRequestSchema, '{"entries":[{"service":{},"function":{}}]}')).toEqual({
    field: "entries[0]",
    description: "only one of service and function can be set",
  });
});

test("a null member is absent, and what reads well has no fault", () => {
  expect(findJsonFault(CatalogQueryRequestSchema, '{"namespace":null,"viewer":null,"limit":5,"scope":"SCOPE_ZONE"}')).toBeUndefined();
});

test("a fault is found exactly where reading fails, whatever the JSON", () => {
  const keys = fc.constantFrom("namespace", "names", "kinds", "limit", "viewer", "scope", "maxStaleness", "explain", "other");
  fc.assert(
    fc.property(fc.dictionary(keys, fc.jsonValue()), (value) => {
      const text = JSON.stringify(value);
      let isReadable = true;
      try {
        fromJsonString(CatalogQueryRequestSchema, text, { ignoreUnknownFields: false });
      } catch {
        isReadable = false;
      }
      expect(findJsonFault(CatalogQueryRequestSchema, text) === undefined).toBe(isReadable);
    }),
  );
});

test("what a stranger sent is shown cut short", () => {
  const fault = findJsonFault(CatalogQueryRequestSchema, JSON.stringify({ ["k".repeat(10_000)]: 1 }));
  expect(fault?.field.length).toBeLessThan(100);
});
