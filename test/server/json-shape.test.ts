import fc from "fast-check";
import { expect, test } from "vitest";
import { RegisterRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { framed } from "../../src/grpc/wire/framing.ts";
import { JsonShape } from "../../src/server/json-shape.ts";
import { EnvelopedShape } from "../../src/server/request-shape.ts";
import { planner } from "../../src/services/request-plan.ts";

/** Of a request without fields. */
const PLAN = { byNumber: [], byName: new Map(), singleCount: 0 };

const faultOf = (text: string, pieceBytes = 7): string => {
  const [shape, bytes] = [new JsonShape(PLAN), Buffer.from(text)];
  let fault = "";
  for (let at = 0; at < bytes.length; at += pieceBytes) fault = shape.look(bytes.subarray(at, at + pieceBytes))?.message ?? fault;
  return fault;
};

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
  const fault = faultOf(text, 4096);
  expect(says === "" ? fault : fault.includes(says) || fault).toBe(says === "" ? "" : true);
});

test("what the pieces of a text are does not matter, and JSON that is not deep is let through", () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 20 }), fc.integer({ min: 1, max: 50 }), (text, pieceBytes) => {
      expect(faultOf(text, pieceBytes)).toBe("");
    }),
  );
});

test("each text of a stream is judged by itself, in whatever pieces it comes, and compressed ones are passed over", () => {
  const deep = "[".repeat(60);
  const stream = (last: string, flag: number) => {
    const frame = framed(Buffer.from(last));
    frame[0] = flag;
    return Buffer.concat([framed(Buffer.from(deep)), framed(new Uint8Array()), framed(Buffer.from(deep)), frame]);
  };
  const streamFaultOf = (bytes: Uint8Array, pieceBytes: number) => {
    const shape = new EnvelopedShape(() => new JsonShape(PLAN));
    let fault: string | undefined;
    for (let at = 0; at < bytes.length; at += pieceBytes) fault ??= shape.look(bytes.subarray(at, at + pieceBytes))?.message;
    return fault;
  };
  for (const pieceBytes of [1, 7, 10_000]) {
    expect(streamFaultOf(stream("[".repeat(100), 0), pieceBytes)).toBeUndefined();
    expect(streamFaultOf(stream("[".repeat(101), 0), pieceBytes)).toContain("nested deeper than 100");
    expect(streamFaultOf(stream("[".repeat(101), 1), pieceBytes)).toBeUndefined();
  }
});

const REGISTER = planner({ maxRequestEntries: 1000, maxTargets: 64, maxMetadataPairs: 64, maxListItems: 64 })(RegisterRequestSchema);
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
    text: `{"entries":[{"metadata":{${many('"a":"b"', 11_000)}}}]}`,
    says: "entries[0].metadata: has more than 64 items (limits.max_metadata_pairs)",
  },
  { what: "commas and names in texts", text: `{"leaseId":"${many("entries[{", 20_000)}"}`, says: "" },
  { what: "a list of a field that there is not", text: `{"nope":[${many("{}", 20_000)}]}`, says: "" },
])("lists of a request: $what", ({ text, says }) => {
  for (const pieceBytes of [5, 4096]) {
    const shape = new JsonShape(REGISTER);
    const bytes = Buffer.from(text);
    let fault = "";
    for (let at = 0; at < bytes.length; at += pieceBytes) fault = shape.look(bytes.subarray(at, at + pieceBytes))?.message ?? fault;
    expect(fault).toBe(says === "" ? "" : `invalid_argument: ${says}`);
  }
});
