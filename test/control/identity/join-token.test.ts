import { expect, test } from "vitest";
import { clusterOfToken, newToken, parseToken, secretDigest, tokenText } from "../../../src/control/identity/join-token.ts";
import { fixedBytes } from "../../fakes/identity.ts";

const DIGEST = "0f".repeat(32);
const SECRET = "s".repeat(43);

test.each(["eu", "a.b-c_1", "x".repeat(64)])("a token for the cluster %s is read from its text", (clusterId) => {
  const token = newToken(clusterId, DIGEST, fixedBytes());
  const text = tokenText(token);
  expect(text).toMatch(/^wmj1\.(0f){32}\..+\.[A-Za-z0-9_-]{43}$/);
  expect(parseToken(text)).toEqual(token);
  expect(clusterOfToken(token)).toBe(clusterId);
});

test("each token has an id and a secret of its own", () => {
  const random = fixedBytes();
  const tokens = Array.from({ length: 20 }, () => newToken("eu", DIGEST, random));
  expect(new Set(tokens.flatMap(({ id, secret }) => [id, secret])).size).toBe(40);
  expect(secretDigest(tokens[0]?.secret ?? "")).toMatch(/^[0-9a-f]{64}$/);
  expect(secretDigest("a")).not.toBe(secretDigest("b"));
});

test.each([
  "",
  "wmj1",
  `wmj2.${DIGEST}.eu:0123456789ab.${SECRET}`,
  `wmj1.${DIGEST.slice(1)}.eu:0123456789ab.${SECRET}`,
  `wmj1.${DIGEST.toUpperCase()}.eu:0123456789ab.${SECRET}`,
  `wmj1.${DIGEST}.0123456789ab.${SECRET}`,
  `wmj1.${DIGEST}.:0123456789ab.${SECRET}`,
  `wmj1.${DIGEST}.eu:0123456789a.${SECRET}`,
  `wmj1.${DIGEST}.e/u:0123456789ab.${SECRET}`,
  `wmj1.${DIGEST}.${"x".repeat(65)}:0123456789ab.${SECRET}`,
  `wmj1.${DIGEST}.eu:0123456789ab.${SECRET}s`,
  `wmj1.${DIGEST}.eu:0123456789ab.${SECRET.slice(1)}`,
  `wmj1.${DIGEST}.eu:0123456789ab.${SECRET.slice(1)}=`,
  `wmj1.${DIGEST}.eu:0123456789ab.${SECRET}\n`,
  ` wmj1.${DIGEST}.eu:0123456789ab.${SECRET}`,
])("%j is no join token", (text) => {
  expect(parseToken(text)).toBeUndefined();
});
