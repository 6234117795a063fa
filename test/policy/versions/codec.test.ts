import fc from "fast-check";
import { expect, test } from "vitest";
import { sha256Hex } from "../../../src/lib/crypto.ts";
import { checksumOf } from "../../../src/policy/set/rules.ts";
import { decodeFacts, decodeVersion, encodeVersion } from "../../../src/policy/versions/codec.ts";
import type { PolicyVersion } from "../../../src/policy/versions/version.ts";
import { rule, set, someSet, span } from "../../fakes/policies.ts";

function version(of: PolicyVersion["set"]): PolicyVersion {
  return {
    number: 3,
    hlc: 2049,
    nodeId: "n1",
    lineage: [{ number: 2, checksum: "00" }],
    version: of.version,
    defaultAllow: of.defaultAllow,
    ruleCount: of.rules.length,
    appliedWallMs: 1,
    principal: "ann",
    reason: "a line\nand another",
    changeTicket: "",
    checksum: checksumOf(of),
    stage: undefined,
    changes: [],
    changesLeftOut: 0,
    set: of,
  };
}

test("a version comes back from its bytes as it was, and with any byte changed it does not come back", () => {
  fc.assert(
    fc.property(someSet, fc.nat(), fc.integer({ min: 1, max: 255 }), (any, at, flip) => {
      const kept = version(any);
      const { set: _set, ...facts } = kept;
      const bytes = encodeVersion(kept);
      expect(decodeVersion(bytes)).toEqual({ ok: true, version: kept });
      expect(decodeFacts(bytes)).toEqual({ ok: true, version: facts });
      const index = at % bytes.length;
      bytes[index] = (bytes[index] ?? 0) ^ flip;
      expect(decodeVersion(bytes).ok).toBe(false);
      expect(decodeFacts(bytes).ok).toBe(false);
      expect(decodeVersion(bytes.subarray(0, index)).ok).toBe(false);
    }),
  );
});

test("the bytes of a version stay readable: those of format 2, and of format 1, which knew no stamp, node and lineage", () => {
  const kept = version({ version: "v", defaultAllow: true, rules: [] });
  const body =
    '{"format":2,"number":3,"hlc":2049,"nodeId":"n1","lineage":[{"number":2,"checksum":"00"}],"version":"v","defaultAllow":true,' +
    '"ruleCount":0,"appliedWallMs":1,"principal":"ann","reason":"a line\\nand another","changeTicket":"",' +
    `"checksum":"${kept.checksum}","changes":[],"changesLeftOut":0}\n{"version":"v","defaultAllow":true,"rules":[]}\n`;
  expect(new TextDecoder().decode(encodeVersion(kept))).toBe(`${sha256Hex(body)}\n${body}`);
  const old = body.replace('"format":2', '"format":1').replace(/"hlc".*?\],/, "");
  expect(decodeVersion(hashed(old))).toEqual({ ok: true, version: { ...kept, hlc: 0, nodeId: "", lineage: [] } });
  expect(decodeVersion(hashed(body.replace('"format":2', '"format":3')))).toEqual({
    ok: false,
    fault: "its format 3 is not supported by this version of waymark",
  });
});

function hashed(body: string): Uint8Array {
  return new TextEncoder().encode(`${sha256Hex(body)}\n${body}`);
}

test.each(["", "{}", "[]\n[]\n", '{"format":2}\n{}\n', "nonsense\nnonsense\n", "null\nnull\n", '{"format":"2"}\n'])(
  "bytes with a right hash that are no version (%j) are refused, not believed",
  (body) => {
    expect(decodeVersion(hashed(body)).ok).toBe(false);
    expect(decodeFacts(hashed(body)).ok).toBe(false);
  },
);

/** Whether bytes with a right hash that say this of a version are read; what is `undefined` is left out of them. */
function isRead(over: object): boolean {
  const kept = version(set([rule("a", { cutoverWindows: [span(1, 2)] })]));
  const said: unknown = { ...kept, ...over };
  return decodeVersion(encodeVersion(said as PolicyVersion)).ok; // Another node may say anything.
}

test("facts with any field missing, or of another type, are refused", () => {
  const { set: _set, ...facts } = version(set([]));
  expect(isRead({})).toBe(true);
  expect(isRead({ changes: [{ pattern: "a", change: "changed", fields: [{ field: "owners", removed: ["x"], added: [] }] }] })).toBe(true);
  // Only a stage may be missing.
  expect(Object.keys(facts).filter((field) => isRead({ [field]: {} }))).toEqual([]);
  expect(Object.keys(facts).filter((field) => isRead({ [field]: undefined }))).toEqual(["stage"]);
  for (const changes of [
    [1],
    [{ pattern: "a" }],
    [{ pattern: "a", change: "changed", fields: [{ field: "owners", removed: [1], added: [] }] }],
  ])
    expect(isRead({ changes })).toBe(false);
});

test.each([
  {
    field: "stage",
    good: [
      { by: "percent", percent: 1 },
      { by: "percent", percent: 100 },
      { by: "clusters", clusterIds: ["a"] },
    ],
    bad: [
      {},
      { by: "moon" },
      { by: "percent" },
      { by: "clusters", clusterIds: [1] },
      5,
      ...[0, 0.5, 101, -1].map((percent) => ({ by: "percent", percent })),
    ],
  },
  {
    field: "appliedWallMs",
    good: [-62_135_596_800_000, -1, 253_402_300_799_999],
    bad: [0.1, 1e308, 253_402_300_800_000, -62_135_596_800_001],
  },
  { field: "ruleCount", good: [2 ** 32 - 1], bad: [-1, 2 ** 32] },
  { field: "number", good: [1], bad: [-1, 0.5, Number.MAX_SAFE_INTEGER + 1] },
])("facts that no answer about the policy could give are refused: $field", ({ field, good, bad }) => {
  for (const value of good) expect(isRead({ [field]: value })).toBe(true);
  for (const value of bad) expect(isRead({ [field]: value })).toBe(false);
});

test("a set with any field missing, or of another type, is refused", () => {
  const whole = set([rule("a", { cutoverWindows: [span(1, 2)] })]);
  const says = (one: unknown) => decodeVersion(encodeVersion({ ...version(whole), set: one } as PolicyVersion));
  const refused = { ok: false, fault: "its rules are not a valid policy set" };
  for (const field of Object.keys(whole)) expect(says({ ...whole, [field]: 7 })).toEqual(refused);
  for (const field of Object.keys(whole.rules[0] ?? {}))
    for (const value of [undefined, {}]) expect(says({ ...whole, rules: [{ ...whole.rules[0], [field]: value }] })).toEqual(refused);
  for (const nothing of [1, "x", [], {}]) expect(says(nothing)).toEqual(refused);
});
