import fc from "fast-check";
import { expect, test } from "vitest";
import { RegisterRequestSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { ApplyPolicyRequestSchema } from "../../../gen/waymark/policy/v1/policy_pb.js";
import { jsonFault } from "../../../src/server/request-shape/json.ts";
import { type MessageShapePlan, planner } from "../../../src/server/request-shape/plan.ts";

/** Of a request without fields. */
const PLAN: MessageShapePlan = { typeName: "None", isWellKnown: true, byNumber: [], byName: new Map(), singleCount: 0 };

const faultOf = (text: string, plan = PLAN): string => jsonFault(plan, Buffer.from(text))?.message ?? "";

test.each([
  { what: "a request", text: '{"namespace":"svc.shop","limit":10}', says: "" },
  { what: "100 deep", text: "[".repeat(100) + "]".repeat(100), says: "" },
  { what: "101 deep", text: "[".repeat(101) + "]".repeat(101), says: "nested deeper than 100" },
  { what: "objects 101 deep", text: `${'{"a":'.repeat(101)}1${"}".repeat(101)}`, says: "nested deeper than 100" },
  { what: "brackets in a text", text: `{"a":"${"[".repeat(500)}"}`, says: "" },
  { what: "brackets behind an escaped quote", text: `{"a":"\\"${"[".repeat(500)}"}`, says: "" },
  { what: "brackets behind an escaped backslash and the end", text: `["\\\\"${",[".repeat(500)}`, says: "nested deeper than 100" },
  { what: "250,000 items", text: `[${"1,".repeat(250_000)}1]`, says: "" },
  { what: "more items than that", text: `[${"1,".repeat(250_001)}1]`, says: "more than 250000 names and items" },
  { what: "more names than that", text: `{${'"a":1,'.repeat(125_001)}"a":1}`, says: "more than 250000 names and items" },
  { what: "closed more often than opened", text: "]".repeat(500) + "[".repeat(100), says: "" },
])("$what → $says", ({ text, says }) => {
  const fault = faultOf(text);
  expect(says === "" ? fault : fault.includes(says) || fault).toBe(says === "" ? "" : true);
});

test("JSON that is not deep is let through", () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 20 }), (text) => {
      expect(faultOf(text)).toBe("");
    }),
  );
});

const REGISTER = planner({ maxRequestEntries: 1000, maxTargets: 64, maxMetadataPairs: 64, maxListItems: 64 })(RegisterRequestSchema);
const POLICY = planner({ maxRequestEntries: 1000, maxTargets: 64, maxMetadataPairs: 64, maxListItems: 64 })(ApplyPolicyRequestSchema);
const many = (item: string, count: number) => Array.from({ length: count }, () => item).join(",");

test.each([
  { what: "a list at its bound", text: `{"entries":[${many("{}", 1000)}]}`, says: "" },
  { what: "a list a little beyond it", text: `{"entries":[${many("{}", 11_000)}]}`, says: "" },
  {
    what: "a list far beyond it",
    text: `{"ttl":"5s","entries":[${many("{}", 11_002)}]}`,
    says: "entries: has more than 1000 items (limits.max_request_entries)",
  },
  {
    what: "a list in an item of a list, its name escaped",
    text: `{"entries":[{"tags":["a","b"]},{"\\u0074argets":[${many("{}", 11_000)}]}]}`,
    says: "entries[1].targets: has more than 64 items (limits.max_targets)",
  },
  {
    what: "a map",
    text: `{"entries":[{"metadata":{${Array.from({ length: 11_000 }, (_, i) => `"a${i}":"b"`).join()}}}]}`,
    says: "entries[0].metadata: has more than 64 items (limits.max_metadata_pairs)",
  },
  {
    what: "a number of 64 bits with far too many digits",
    text: `{"entries":[{"cache":{"capacityBytes":"${"9".repeat(20_000)}"}}]}`,
    says: "entries[0].cache.capacity_bytes: must be a number of at most 128 characters",
  },
  {
    what: "a number in a text",
    text: `{"leaseId":"${"9".repeat(20_000)}","entries":[{"cache":{"capacityBytes":"${"9".repeat(20)}"}}]}`,
    says: "",
  },
  { what: "commas and names in texts", text: `{"leaseId":"${many("entries[{", 20_000)}"}`, says: "" },
  {
    what: "a list for an unknown field",
    text: `{"nope":[${many("{}", 20_000)}]}`,
    says: "nope: unknown field of RegisterRequest",
  },
  {
    what: "unknown names",
    text: `{"leaseId":"a","entries":[{},{"key":{"name":"a"},"cache":{"x":{},${Array.from({ length: 20_000 }, (_, i) => `"k${i}":0`).join()}}}]}`,
    says: "entries[1].cache.x: unknown field of CacheDetail",
  },
  {
    what: "names in a value that is not a message",
    text: `{"leaseId":{${Array.from({ length: 20_000 }, (_, i) => `"k${i}":0`).join()}}}`,
    says: "request: has more than 10000 unknown or repeated fields",
  },
  {
    what: "a map whose keys are not field names",
    text: `{"entries":[{"metadata":{"x":"${"y".repeat(20_000)}","z":""},"tags":["a"]}]}`,
    says: "",
  },
  {
    what: "a broken escape in a name",
    text: `{"leaseId":"${"y".repeat(20_000)}","\\u00":1}`,
    says: "",
  },
])("lists of a request: $what", ({ text, says }) => {
  expect(faultOf(text, REGISTER)).toBe(says === "" ? "" : `invalid_argument: ${says}`);
});

test("all rules of a policy together have at most 20,000 windows", () => {
  const policyOf = (count: number) => `{"policy":{"rules":[${many(`{"cutoverWindows":[${many("{}", 200)}]}`, count)}]}}`;
  expect(faultOf(policyOf(100), POLICY)).toBe("");
  const says = "policy.rules[100].cutover_windows: the request has more than 20000 cutover windows in all rules together";
  expect(faultOf(policyOf(101), POLICY)).toBe(`invalid_argument: ${says}`);
});
