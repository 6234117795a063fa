/** What a cluster signs: golden bytes, so that every version makes and accepts the same signatures. */
import { expect, test } from "vitest";
import { CONTEXT, isSignedBy, keyIdOf } from "../../src/signing/signer.ts";
import { signingKey } from "../fakes/signing-keys.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const key = signingKey(1);
const bytes = Buffer.from("0a0a7376632e6d61726b65741203776562", "hex");

test("the id of a key is the first 16 digits of the SHA-256 of its bytes", () => {
  expect([hex(key.publicKey.raw), keyIdOf(key.publicKey.raw)]).toEqual([
    "df50d42f5cef87e42409cddf7d3cff5e63e9eac79137dc50d846f873728ebb1b",
    "1649c3a0b4be3548",
  ]);
  expect(key.keyId).toBe("1649c3a0b4be3548");
});

test.each([
  {
    context: CONTEXT.SUMMARY,
    want: "d2d5adf78cfc61f38fac6a9471d0945377dbbe4ce5d3ecdd499c09fbd43153a5624907330883c9ece4e9983be45d0f9a697f4a9282baaa911d79c133d15c470d",
  },
  {
    context: CONTEXT.BEACON,
    want: "e8388e853f05fc26f8eaa956f0890eb04de853b08b2879c2607e487a0840563037dafa8259a6055c9185f0d852f348fc90321a9aec49e88b8848fc2525a65b0c",
  },
  {
    context: CONTEXT.KEY,
    want: "eb05c3a01539f117070a6d8fd5e4b1ef6eea15b430040db1bb81c697f7e5105e880c6dcc1eb10b01a4ee2db6ed51db4f48558e96857444dff42d7d39a0c39b0f",
  },
  {
    context: CONTEXT.KEY_HOLDER,
    want: "594d068b6a71885fee8e4d9c00b20e16927dda81aef989d927db591f7203321e8e9479c307e3afe4a13677dbf883c8df51b325a6dc738704981c73ac21760802",
  },
])("in the context $context a signature has the same bytes in every version, and is good in no other context", ({ context, want }) => {
  const signature = key.sign(context, bytes);
  expect(hex(signature)).toBe(want);
  const good = Object.values(CONTEXT).filter((other) => isSignedBy(key.publicKey, other, { signed: bytes, signature }));
  expect(good).toEqual([context]);
});

test("what the context and the bytes have in common cannot be moved between them", () => {
  const signature = key.sign(CONTEXT.KEY, Buffer.from("-holder.v1"));
  for (const signed of ["", "\0", "-holder.v1\0", "v1\0-holder.v1"])
    expect(isSignedBy(key.publicKey, CONTEXT.KEY_HOLDER, { signed: Buffer.from(signed), signature })).toBe(false);
});
