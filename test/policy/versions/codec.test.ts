import fc from "fast-check";
import { expect, test } from "vitest";
import { canonicalText, checksumOf } from "../../../src/policy/set/text.ts";
import { decodeFacts, decodeVersion, encodeVersion } from "../../../src/policy/versions/codec.ts";
import type { PolicyVersion } from "../../../src/policy/versions/facts.ts";
import { someSet } from "../../fakes/policies.ts";

function version(set: PolicyVersion["set"]): PolicyVersion {
  return {
    number: 3,
    hlc: 2049,
    nodeId: "n1",
    lineage: [{ number: 2, checksum: "00" }],
    version: set.version,
    defaultAllow: set.defaultAllow,
    ruleCount: set.rules.length,
    appliedWallMs: 1,
    principal: "ann",
    reason: "a line\nand another",
    changeTicket: "",
    checksum: checksumOf(canonicalText(set)),
    stage: undefined,
    changes: [],
    changesLeftOut: 0,
    set,
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
  expect(new TextDecoder().decode(encodeVersion(kept))).toBe(`${checksumOf(body)}\n${body}`);
  const old = body.replace('"format":2', '"format":1').replace(/"hlc".*?\],/, "");
  expect(decodeVersion(hashed(old))).toEqual({ ok: true, version: { ...kept, hlc: 0, nodeId: "", lineage: [] } });
  expect(decodeVersion(hashed(body.replace('"format":2', '"format":3')))).toEqual({
    ok: false,
    fault: "it has the format 3, which this version of waymark does not know",
  });
});

function hashed(body: string): Uint8Array {
  return new TextEncoder().encode(`${checksumOf(body)}\n${body}`);
}

test.each(["", "{}", "[]\n[]\n", '{"format":2}\n{}\n', "nonsense\nnonsense\n", "null\nnull\n", '{"format":"2"}\n'])(
  "bytes with a right hash that are no version (%j) are refused, not believed",
  (body) => {
    expect(decodeVersion(hashed(body)).ok).toBe(false);
    expect(decodeFacts(hashed(body)).ok).toBe(false);
  },
);

test("rules of another form than a policy's are refused", () => {
  const kept = version({ version: "v", defaultAllow: true, rules: [] });
  const facts = new TextDecoder().decode(encodeVersion(kept)).split("\n")[1];
  for (const rules of ["{}", '"x"', "[1]", '[{"pattern":"a"}]'])
    expect(decodeVersion(hashed(`${facts}\n{"version":"v","defaultAllow":true,"rules":${rules}}\n`))).toMatchObject({ ok: false });
});
