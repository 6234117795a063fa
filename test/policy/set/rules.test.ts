import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { sha256Hex } from "../../../src/lib/crypto.ts";
import { activeWindow, BELOW, checksumOf, nextEdge, RuleTrie } from "../../../src/policy/set/rules.ts";
import { rule, set, someSet, span } from "../../fakes/policies.ts";

/** All patterns that cover the namespace, most specific last. */
function coveringPatterns(namespace: string): readonly string[] {
  const labels = namespace.split(".");
  return labels.flatMap((_, i) => {
    const prefix = labels.slice(0, i + 1).join(".");
    return i + 1 < labels.length ? [prefix, `${prefix}${BELOW}`] : [prefix];
  });
}

test("the trie finds what a scan of all rules finds", () => {
  const namespace = fc.array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 4 }).map((labels) => labels.join("."));
  const pattern = fc.tuple(namespace, fc.boolean()).map(([prefix, isBelow]) => (isBelow ? `${prefix}${BELOW}` : prefix));
  fc.assert(
    fc.property(fc.uniqueArray(pattern, { maxLength: 12 }), namespace, (patterns, asked) => {
      const want = coveringPatterns(asked).findLast((one) => patterns.includes(one));
      expect(new RuleTrie(patterns.map((one) => rule(one))).find(asked)?.pattern).toBe(want);
    }),
  );
});

test("of windows that start together the later in the list is active", () => {
  const windows = [span(0, 10), span(0, 20)];
  expect(activeWindow(windows, 5)).toBe(windows[1]);
});

test("no window is active outside all of them", () => {
  expect(activeWindow([span(0, 10)], 10)).toBeUndefined();
  expect(activeWindow([], 0)).toBeUndefined();
});

test("edges are told in both directions, the nearest first", () => {
  const windows = [span(30, undefined), span(10, 20)];
  expect([0, 10, 20, 30].map((at) => nextEdge(windows, at))).toEqual([10, 20, 30, undefined]);
});

test("the checksum does not depend on the order of rules and lists, and on nothing else than content", () => {
  fc.assert(
    fc.property(someSet, (one) => {
      const turned = one.rules
        .toReversed()
        .map((each) => ({ ...each, owners: each.owners.toReversed(), visibilityTenants: each.visibilityTenants.toReversed() }));
      expect(checksumOf({ ...one, rules: turned })).toBe(checksumOf(one));
      expect(checksumOf({ ...one, defaultAllow: !one.defaultAllow })).not.toBe(checksumOf(one));
      expect(checksumOf({ ...one, rules: one.rules.slice(1) }) === checksumOf(one)).toBe(one.rules.length === 0);
    }),
  );
});

test("the order of windows is content: of those that start together the last counts", () => {
  const [one, two] = [span(0, 10), span(0, 20)];
  const checksum = (windows: (typeof one)[]) => checksumOf(set([rule("a", { cutoverWindows: windows })]));
  expect(checksum([one, two])).not.toBe(checksum([two, one]));
});

test("a checksum is the SHA-256 of JSON whose form stays: stored versions and other nodes' have been named by it", () => {
  const text =
    '{"version":"v1","defaultAllow":false,"rules":[{"pattern":"a","owners":[],"visibility":[],"visibilityTenants":["blue","red"],"exportScopes":[],' +
    '"allowSummaries":false,"cutoverWindows":[{"startsWallMs":0,"endsWallMs":10,"exportScopes":[1,3]}],"policyVersion":"","priority":0,' +
    '"quota":{"entries":0,"watches":0,"bytes":0}}]}';
  const windows = [span(0, 10, { exportScopes: [SCOPE.REGION, SCOPE.LOCAL] })];
  expect(checksumOf(set([rule("a", { visibilityTenants: ["red", "blue"], cutoverWindows: windows })]))).toBe(sha256Hex(text));
});
