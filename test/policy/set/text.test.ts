import fc from "fast-check";
import { expect, test } from "vitest";
import type { PolicySet } from "../../../src/policy/set/rules.ts";
import { canonicalText, checksumOf } from "../../../src/policy/set/text.ts";
import { rule, set, someSet, span } from "../../fakes/policies.ts";

test("the checksum does not depend on the order of rules and lists, and on nothing else than content", () => {
  const checksum = (one: PolicySet) => checksumOf(canonicalText(one));
  fc.assert(
    fc.property(someSet, someSet, (a, b) => {
      const turned = a.rules
        .toReversed()
        .map((one) => ({ ...one, owners: one.owners.toReversed(), visibilityTenants: one.visibilityTenants.toReversed() }));
      expect(checksum({ ...a, rules: turned })).toBe(checksum(a));
      expect(checksum({ ...a, defaultAllow: !a.defaultAllow })).not.toBe(checksum(a));
      if (checksum(a) === checksum(b)) expect(canonicalText(a)).toBe(canonicalText(b));
    }),
  );
});

test("the order of windows is content: of those that start together the last counts", () => {
  const [one, two] = [span(0, 10), span(0, 20)];
  const text = (windows: (typeof one)[]) => canonicalText(set([rule("a", { cutoverWindows: windows })]));
  expect(text([one, two])).not.toBe(text([two, one]));
});

test("a checksum is the SHA-256 of the text, in hex", () => {
  expect(checksumOf("abc")).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
});
