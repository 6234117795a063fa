import { expect, test } from "vitest";
import type { MemberUpdate } from "../../src/fabric/messages.ts";
import { updateFault } from "../../src/fabric/update-rules.ts";
import { factsOf } from "./membership-world.ts";

const GOOD: MemberUpdate = { ...factsOf("a"), status: "alive", incarnation: 1, accuser: "" };
const LONG = "x".repeat(257);

test.each<{ readonly what: string; readonly over: Partial<MemberUpdate>; readonly want: string | undefined }>([
  { what: "a good one", over: {}, want: undefined },
  { what: "another cluster of the region", over: { clusterId: "c2" }, want: undefined },
  { what: "no id", over: { nodeId: "" }, want: "text" },
  { what: "no address", over: { address: "" }, want: "text" },
  { what: "no cluster", over: { clusterId: "" }, want: "text" },
  { what: "a long id", over: { nodeId: LONG }, want: "text" },
  { what: "a long accuser", over: { accuser: LONG }, want: "text" },
  { what: "a negative incarnation", over: { incarnation: -1 }, want: "number" },
  { what: "half an incarnation", over: { incarnation: 0.5 }, want: "number" },
  { what: "an incarnation that leaves no room to contradict", over: { incarnation: Number.MAX_SAFE_INTEGER }, want: "number" },
  { what: "no number", over: { generation: Number.NaN }, want: "number" },
  { what: "too many transports", over: { transports: new Array<string>(17).fill("h2") }, want: "list" },
  { what: "a long role", over: { roles: [LONG] }, want: "list" },
  { what: "too many versions", over: { protocolVersions: new Array<number>(17).fill(1) }, want: "list" },
  { what: "a long label", over: { labels: { a: LONG } }, want: "list" },
  {
    what: "too many labels",
    over: { labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, "v"])) },
    want: "list",
  },
])("$what: $want", ({ over, want }) => {
  expect(updateFault({ ...GOOD, ...over })).toBe(want);
});

test("a status of a newer program is refused", () => {
  expect(updateFault(Object.assign({ ...GOOD }, { status: "asleep" }))).toBe("status");
});
