import * as fc from "fast-check";
import { expect, test } from "vitest";
import { decodeBase64url } from "../../../src/lib/crypto.ts";

test("bytes that Node encodes come back", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70 }), (bytes) => {
      expect(decodeBase64url(Buffer.from(bytes).toString("base64url"))).toEqual(Buffer.from(bytes));
    }),
  );
});

test("a text is decoded only if it is exactly what encoding its bytes gives", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ maxLength: 12 }), fc.base64String({ maxLength: 12 })), (text) => {
      const bytes = decodeBase64url(text);
      expect(bytes === undefined ? text : Buffer.from(bytes).toString("base64url")).toBe(text);
    }),
  );
  for (const text of ["A", "AB", "ABC", "AA==", "A+", "AAA/", "AAAAA", "AA\n"])
    expect([text, decodeBase64url(text)]).toEqual([text, undefined]);
});
