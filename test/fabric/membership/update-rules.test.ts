import { expect, test } from "vitest";
import { updateFault } from "../../../src/fabric/membership/update-rules.ts";
import type { MemberUpdate, Reach } from "../../../src/fabric/wire/messages.ts";
import { factsOf } from "../membership-world.ts";

const GOOD: MemberUpdate = { ...factsOf("a"), status: "alive", incarnation: 1, accuser: "" };
const NOW_MS = Date.UTC(2026, 6);
const YEAR_S = 365 * 86_400;
const BOUND_S = NOW_MS / 1000 + 10 * YEAR_S;
const LONG = "x".repeat(257);
/** What a member tells of a neighbour. */
const heard = (reached: readonly Reach[]): Pick<MemberUpdate, "heardRules"> => ({
  heardRules: [{ clusterId: "x", region: "x", isHeard: true, hasLink: true, exports: ["*"], reached }],
});

test.each<{ readonly what: string; readonly over: Partial<MemberUpdate>; readonly want: string | undefined }>([
  { what: "a good one", over: {}, want: undefined },
  { what: "another cluster of the region", over: { clusterId: "c2" }, want: undefined },
  { what: "no id", over: { nodeId: "" }, want: "text" },
  { what: "no address", over: { address: "" }, want: "text" },
  { what: "no cluster", over: { clusterId: "" }, want: "text" },
  { what: "a long id", over: { nodeId: LONG }, want: "text" },
  { what: "a long accuser", over: { accuser: LONG }, want: "text" },
  { what: "a long id of a control store", over: { controlStore: LONG }, want: "text" },
  {
    what: "a long URL of a draining node",
    over: { drain: { step: "", sinceMs: 0, isStuck: false, left: [], urls: ["x".repeat(273)] } },
    want: "text",
  },
  { what: "a long digest of settings", over: { configDigest: LONG }, want: "text" },
  { what: "a negative incarnation", over: { incarnation: -1 }, want: "number" },
  { what: "half an incarnation", over: { incarnation: 0.5 }, want: "number" },
  { what: "an incarnation that leaves no room to contradict", over: { incarnation: Number.MAX_SAFE_INTEGER }, want: "number" },
  { what: "a clock that is years ahead", over: { incarnation: BOUND_S }, want: undefined },
  { what: "an incarnation further ahead than any clock", over: { status: "dead", incarnation: BOUND_S + 1 }, want: "ahead" },
  { what: "what contradicts one at the bound", over: { incarnation: BOUND_S + 1 }, want: undefined },
  { what: "a life that is not further ahead", over: { incarnation: 2 ** 52 }, want: "ahead" },
  { what: "a generation of years ahead", over: { generation: BOUND_S * 2 ** 20 }, want: undefined },
  { what: "a generation of a date that no clock shows", over: { generation: (BOUND_S + 1) * 2 ** 20 }, want: "ahead" },
  { what: "no number", over: { generation: Number.NaN }, want: "number" },
  { what: "too many transports", over: { transports: new Array<string>(17).fill("h2") }, want: "list" },
  { what: "a long role", over: { roles: [LONG] }, want: "list" },
  { what: "too many versions", over: { protocolVersions: new Array<number>(17).fill(1) }, want: "list" },
  {
    what: "long rules of neighbours",
    over: {
      heardRules: [
        { clusterId: "x", region: "x", isHeard: true, hasLink: true, exports: Array.from({ length: 9 }, () => "e".repeat(242)) },
      ],
    },
    want: "list",
  },
  {
    what: "a long reach of neighbours",
    over: heard(Array.from({ length: 9 }, () => ({ hops: 1, regions: ["r"], patterns: ["e".repeat(242)] }))),
    want: "list",
  },
  {
    what: "a reach of short names that is long to look at",
    over: heard([
      { hops: 1, regions: Array.from({ length: 64 }, (_, n) => `r${n}`), patterns: Array.from({ length: 20 }, (_, n) => `p${n}`) },
    ]),
    want: "list",
  },
  { what: "a long label", over: { labels: { a: LONG } }, want: "list" },
  {
    what: "too many labels",
    over: { labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, "v"])) },
    want: "list",
  },
])("$what: $want", ({ over, want }) => {
  expect(updateFault({ ...GOOD, ...over }, NOW_MS)).toBe(want);
});

test("a status of a newer program is refused", () => {
  expect(updateFault(Object.assign({ ...GOOD }, { status: "asleep" }), NOW_MS)).toBe("status");
});

test("a node whose clock does not know the date hears the others", () => {
  expect(updateFault({ ...GOOD, incarnation: NOW_MS / 1000, generation: (NOW_MS / 1000) * 2 ** 20 }, 0)).toBeUndefined();
});
