import { expect, test } from "vitest";
import { Ed25519PublicKey, ed25519PrivateKey, equalSecrets, sha256, sha256Halves } from "../../src/lib/crypto.ts";
import { ed25519Pem } from "../fakes/signing-keys.ts";

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

// RFC 8032, 7.1.
test.each([
  {
    name: "TEST 1",
    secret: "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    publicKey: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    message: "",
    signature:
      "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
  },
  {
    name: "TEST 2",
    secret: "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    publicKey: "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    message: "72",
    signature:
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
  },
  {
    name: "TEST 3",
    secret: "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
    publicKey: "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    message: "af82",
    signature:
      "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
  },
])("Ed25519: $name of RFC 8032", ({ secret, publicKey, message, signature }) => {
  const hex = (text: string) => Buffer.from(text, "hex");
  const key = ed25519PrivateKey(ed25519Pem(secret))!;
  expect(Buffer.from(key.publicKey.raw).toString("hex")).toBe(publicKey);
  expect(Buffer.from(key.sign(hex(message))).toString("hex")).toBe(signature);
  const verifier = new Ed25519PublicKey(hex(publicKey));
  expect(verifier.verify(hex(message), hex(signature))).toBe(true);
  // Of every byte of the message and the signature one bit is turned, and every part is shortened.
  for (let at = 0; at < 64; at++) expect(verifier.verify(hex(message), flipped(hex(signature), at))).toBe(false);
  for (let at = 0; at < message.length / 2; at++) expect(verifier.verify(flipped(hex(message), at), hex(signature))).toBe(false);
  for (const length of [0, 32, 63]) expect(verifier.verify(hex(message), hex(signature).subarray(0, length))).toBe(false);
  expect(verifier.verify(hex(message), hex(`${signature}00`))).toBe(false);
});

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  return bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));
}

test("a signature whose S has the order of the group added, which is as good to plain arithmetic, is refused", () => {
  const key = ed25519PrivateKey(ed25519Pem("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))!;
  const signature = Buffer.from(key.sign(new Uint8Array(3)));
  const order = 2n ** 252n + 27_742_317_777_372_353_535_851_937_790_883_648_493n;
  const littleEndian = (text: Uint8Array) => Buffer.from(text.toReversed());
  const s = BigInt(`0x${littleEndian(signature.subarray(32)).toString("hex")}`) + order;
  const other = Buffer.concat([signature.subarray(0, 32), littleEndian(Buffer.from(s.toString(16).padStart(64, "0"), "hex"))]);
  expect(key.publicKey.verify(new Uint8Array(3), signature)).toBe(true);
  expect(key.publicKey.verify(new Uint8Array(3), other)).toBe(false);
});
