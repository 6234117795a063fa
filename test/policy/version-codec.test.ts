import fc from "fast-check";
import { expect, test } from "vitest";
import { canonicalText, checksumOf } from "../../src/policy/policy-text.ts";
import { decodeFacts, decodeVersion, encodeVersion, type PolicyVersion } from "../../src/policy/version-codec.ts";
import { someSet } from "../fakes/policies.ts";

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
