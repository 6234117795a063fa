import { expect, test } from "vitest";
import { equalSecrets, sha256, sha256Halves } from "../../src/lib/crypto.ts";

// FIPS 180-2, appendix B.1.
const OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

test("SHA-256 of text and of its bytes is the published one", () => {
  expect(Buffer.from(sha256("abc")).toString("hex")).toBe(OF_ABC);
  expect(Buffer.from(sha256(new Uint8Array([97, 98, 99]))).toString("hex")).toBe(OF_ABC);
});

test("Watch 9: a digest adds up the first 8 bytes, big-endian, as two unsigned halves", () => {
  const { high, low } = sha256Halves("abc");
  expect([high, low]).toEqual([0xba7816bf, 0x8f01cfea]);
  expect(((BigInt(high) << 32n) | BigInt(low)).toString(16)).toBe(OF_ABC.slice(0, 16));
});

test("secrets are compared whatever their lengths", () => {
  const bytes = (text: string) => new TextEncoder().encode(text);
  expect(equalSecrets(bytes("token"), bytes("token"))).toBe(true);
  expect(equalSecrets(bytes("token"), bytes("tokem"))).toBe(false);
  expect(equalSecrets(bytes("token"), bytes("tok"))).toBe(false);
  expect(equalSecrets(bytes(""), bytes("tok"))).toBe(false);
});
