import * as fc from "fast-check";
import { expect, test } from "vitest";
import { PROTOCOL_BOUNDS } from "../../../src/catalog/entry/names.ts";
import { ANY, filterHash } from "../../../src/catalog/query/filter.ts";
import { decodePageToken, encodePageToken, MAX_TOKEN_LENGTH } from "../../../src/catalog/query/query.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";

const HASH = filterHash(ANY);

/** The field a refusal names. */
function refused(token: string): string | undefined {
  try {
    decodePageToken(token, HASH);
    return undefined;
  } catch (error) {
    if (!(error instanceof WaymarkError) || error.reason !== "invalid_argument") throw error;
    return error.details.violations?.[0]?.field;
  }
}

/** Of any node's settings; its four separators and its kind beside. */
const LONGEST_KEY = PROTOCOL_BOUNDS.maxNamespaceLength + 2 * PROTOCOL_BOUNDS.maxNameLength + PROTOCOL_BOUNDS.maxIdLength + 8;
const ascii = fc.string({
  unit: fc.integer({ min: 0, max: 0x7f }).map((code) => String.fromCharCode(code)),
  minLength: 1,
  maxLength: LONGEST_KEY,
});

test("a token gives back its key, within its bound", () => {
  fc.assert(
    fc.property(ascii, (key) => {
      const token = encodePageToken(key, HASH);
      expect(decodePageToken(token, HASH)).toBe(key);
      expect(token).toMatch(/^[A-Za-z0-9_-]+$/);
      expect(token.length).toBeLessThanOrEqual(MAX_TOKEN_LENGTH / 2);
    }),
  );
});

test("the longest key that any node may hold makes a token that is taken back", () => {
  const key = "x".repeat(LONGEST_KEY);
  expect(decodePageToken(encodePageToken(key, HASH), HASH)).toBe(key);
});

test("the token of one version is the same bytes for ever", () => {
  expect(filterHash({ ...ANY, namespace: "svc.market", tags: ["a", "b"], kindMask: 2 })).toBe("968c4af53d74c1d3");
  expect(encodePageToken("svc.market\0web\u00001\0i1\0c1", "0123456789abcdef")).toBe("AQEjRWeJq83vc3ZjLm1hcmtldAB3ZWIAMQBpMQBjMfvlFrg");
});

test("no token is the first page", () => {
  expect(decodePageToken("", HASH)).toBe("");
});

test("a token of another filter is refused", () => {
  const token = encodePageToken("a\0b", filterHash({ ...ANY, namespace: "a" }));
  expect(refused(token)).toBe("page_token");
  expect(() => decodePageToken(token, HASH)).toThrow("a different filter");
});

test("garbage is refused, whatever it is", () => {
  expect(refused("A".repeat(MAX_TOKEN_LENGTH + 1))).toBe("page_token");
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string({ minLength: 1 }),
        fc.uint8Array({ minLength: 1 }).map((bytes) => Buffer.from(bytes).toString("base64url")),
      ),
      (token) => {
        fc.pre(token !== "");
        expect(refused(token)).toBe("page_token");
      },
    ),
  );
});

test("a token with one character changed or cut is refused", () => {
  fc.assert(
    fc.property(ascii, fc.nat(), fc.constantFrom("A", "z", "_", "", "5"), (key, at, by) => {
      const token = encodePageToken(key, HASH);
      const place = at % token.length;
      const changed = token.slice(0, place) + by + token.slice(place + 1);
      fc.pre(changed !== token);
      expect(refused(changed)).toBe("page_token");
    }),
  );
});
