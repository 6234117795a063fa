/** Names and their bounds. */
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  CHARS,
  consistsOf,
  isControlNamespace,
  isNamespace,
  isReservedNamespace,
  namespaceCovers,
  parseName,
  parseNamespace,
} from "../../../src/catalog/entry/names.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { runs } from "../../fakes/effort.ts";
import { BOUNDS } from "../../fakes/options.ts";

const LABEL = "a".repeat(63);

test.each([
  { text: "svc", ok: true },
  { text: "svc.market.eu-1", ok: true },
  { text: "0.1", ok: true },
  { text: "a-b", ok: true },
  { text: LABEL, ok: true },
  { text: `${LABEL}a`, ok: false },
  { text: [LABEL, LABEL, LABEL, "abcdefgh"].join("."), ok: true },
  { text: [LABEL, LABEL, LABEL, "abcdefghi"].join("."), ok: false },
  { text: "", ok: false },
  { text: ".svc", ok: false },
  { text: "svc.", ok: false },
  { text: "svc..market", ok: false },
  { text: "-svc", ok: false },
  { text: "svc-", ok: false },
  { text: "svc.-market", ok: false },
  { text: "svc-.market", ok: false },
  { text: "Svc", ok: false },
  { text: "svc_market", ok: false },
  { text: "svc\nmarket", ok: false },
  { text: "své", ok: false },
])("Names and bounds: namespace $text → $ok", ({ text, ok }) => {
  expect(isNamespace(text, BOUNDS)).toBe(ok);
  if (ok) expect(parseNamespace(text, "namespace", BOUNDS)).toBe(text);
  else expect(() => parseNamespace(text, "namespace", BOUNDS)).toThrow(WaymarkError);
});

test("namespaces are what the pattern of the contract says, to the character", () => {
  const pattern = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;
  const near = fc.oneof(
    fc.array(fc.constantFrom("a", "9", "-", ".", "Z", "é", "_"), { maxLength: 8 }).map((parts) => parts.join("")),
    fc
      .array(fc.integer({ min: 61, max: 65 }), { minLength: 1, maxLength: 4 })
      .map((sizes) => sizes.map((size) => "x".repeat(size)).join(".")),
  );
  fc.assert(
    fc.property(near, (text) => isNamespace(text, BOUNDS) === (text.length <= 200 && pattern.test(text))),
    { numRuns: runs(2000) },
  );
});

test("names are 1 to 128 of their characters", () => {
  const all = "ABCZabcz0189._:/@+-";
  expect(parseName(all, "name", BOUNDS)).toBe(all);
  expect(parseName("x".repeat(128), "name", BOUNDS)).toHaveLength(128);
  for (const bad of ["", "x".repeat(129), "a b", "a\0", "a,b", "ä", "a*"]) expect(() => parseName(bad, "name", BOUNDS)).toThrow("name: ");
});

test("only the characters of a class are of that class", () => {
  const classes = [
    [CHARS.NAME, /^[A-Za-z0-9._:/@+-]$/],
    [CHARS.HOST, /^[A-Za-z0-9._:-]$/],
    [CHARS.ALIAS, /^[A-Za-z0-9._-]$/],
    [CHARS.LABEL, /^[a-z0-9-]$/],
  ] as const;
  for (const [chars, pattern] of classes) {
    for (let code = 0; code < 300; code++) {
      const text = String.fromCharCode(code);
      expect(consistsOf(text, chars, 1)).toBe(pattern.test(text));
    }
  }
});

test("a bound is a setting", () => {
  const bounds = { ...BOUNDS, maxNameLength: 3, maxNamespaceLength: 5, maxLabelLength: 2 };
  expect(() => parseName("abcd", "name", bounds)).toThrow("1 to 3 characters of");
  expect(isNamespace("ab.cd", bounds)).toBe(true);
  expect(isNamespace("abc", bounds)).toBe(false);
  expect(isNamespace("ab.c.d", bounds)).toBe(false);
});

test.each([
  { prefix: "svc.market", namespace: "svc.market", covers: true },
  { prefix: "svc.market", namespace: "svc.market.eu", covers: true },
  { prefix: "svc.market", namespace: "svc.marketing", covers: false },
  { prefix: "svc.market", namespace: "svc", covers: false },
  { prefix: "", namespace: "svc", covers: true },
])("Names and bounds: prefix '$prefix' covers $namespace → $covers", ({ prefix, namespace, covers }) => {
  expect(namespaceCovers(prefix, namespace)).toBe(covers);
});

test.each([
  { namespace: "discovery", control: true, reserved: true },
  { namespace: "discovery.nodes", control: true, reserved: true },
  { namespace: "discovery.x.y", control: true, reserved: true },
  { namespace: "discoveryx", control: false, reserved: false },
  { namespace: "x.discovery", control: false, reserved: false },
  { namespace: "node", control: false, reserved: true },
  { namespace: "nodes", control: false, reserved: false },
])("Names and bounds: $namespace is the control plane's: $control, reserved: $reserved", ({ namespace, control, reserved }) => {
  expect(isControlNamespace(namespace)).toBe(control);
  expect(isReservedNamespace(namespace)).toBe(reserved);
});

test("a refusal quotes the value, cut and without control characters", () => {
  expect(() => parseName("a\u001b[31m", "name", BOUNDS)).toThrow('name: "a\\u001b[31m" (6 characters)');
  expect(() => parseName("é".repeat(500), "name", BOUNDS)).toThrow("(500 characters)");
  expect(() => parseName("é", "name", BOUNDS)).toThrow('"é" (1 character) must');
  expect(() => parseNamespace("A", "namespace", BOUNDS)).toThrow('"A" (1 character) must');
});
