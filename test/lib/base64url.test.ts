import * as fc from "fast-check";
import { expect, test } from "vitest";
import { decodeBase64url, encodeBase64url } from "../../src/lib/base64url.ts";

test("bytes become the text that Node's own base64url makes, and come back", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70 }), (bytes) => {
      const text = encodeBase64url(bytes);
      expect(text).toBe(Buffer.from(bytes).toString("base64url"));
      expect(decodeBase64url(text)).toEqual(bytes);
    }),
  );
});

test("a text is decoded only if it is exactly what encoding its bytes gives", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ maxLength: 12 }), fc.base64String({ maxLength: 12 })), (text) => {
      const bytes = decodeBase64url(text);
      expect(bytes === undefined ? text : encodeBase64url(bytes)).toBe(text);
    }),
  );
  for (const text of ["A", "AB", "ABC", "AA==", "A+", "AAA/", "AAAAA", "AA\n"])
    expect([text, decodeBase64url(text)]).toEqual([text, undefined]);
});
