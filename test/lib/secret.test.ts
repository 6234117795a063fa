import { inspect } from "node:util";
import { expect, test } from "vitest";
import { Secret } from "../../src/lib/secret.ts";

test.each([
  { way: "String()", print: (secret: Secret) => String(secret) },
  { way: "joining", print: (secret: Secret) => [secret].join() },
  { way: "JSON", print: (secret: Secret) => JSON.stringify({ nested: { secret } }) },
  { way: "inspect", print: (secret: Secret) => inspect({ nested: { secret } }, { showHidden: true, depth: 9 }) },
  { way: "its keys", print: (secret: Secret) => Reflect.ownKeys(secret).map(String).join() },
])("a secret is not shown by $way", ({ print }) => {
  expect(print(new Secret("hunter2"))).not.toContain("hunter2");
});

test("a secret is revealed to who asks for it", () => {
  expect(new Secret("hunter2").reveal()).toBe("hunter2");
});
